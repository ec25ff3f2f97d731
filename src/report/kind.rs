//! What can be drawn of a run.

/// A kind of picture of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Accuracy and loss.
    Curves,
    /// Learning rate.
    Lr,
    /// Confusion matrix.
    Confusion,
    /// Receiver operating characteristic, a class against the rest.
    Roc,
    /// Precision against recall, a class against the rest.
    Pr,
    /// Precision, recall and F1 of each class.
    Classes,
    /// The surest mistakes.
    Mistakes,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Curves,
        Self::Lr,
        Self::Confusion,
        Self::Roc,
        Self::Pr,
        Self::Classes,
        Self::Mistakes,
    ];

    /// Whether it is drawn of the test split.
    pub fn needs_test(self) -> bool {
        !matches!(self, Self::Curves | Self::Lr)
    }

    /// What it is called: on the command line, and as a file without its ending.
    pub fn name(self) -> &'static str {
        match self {
            Self::Curves => "curves",
            Self::Lr => "lr",
            Self::Confusion => "confusion",
            Self::Roc => "roc",
            Self::Pr => "pr",
            Self::Classes => "classes",
            Self::Mistakes => "mistakes",
        }
    }
}
