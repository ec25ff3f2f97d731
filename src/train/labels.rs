//! What the pictures of a batch show.

use std::ops::Range;

use crate::ops::loss::Others;

/// The class of each picture, or the two that mixing made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    classes: Vec<u32>,
    mixed: Option<f64>,
    /// Of the pictures that these are mixed with.
    others: Vec<u32>,
}

impl From<Vec<u32>> for Labels {
    fn from(classes: Vec<u32>) -> Self {
        Self {
            classes,
            mixed: None,
            others: Vec::new(),
        }
    }
}

impl Labels {
    /// Labels of a batch that was mixed with itself in reverse order; `own` is what is left of each
    /// picture.
    pub fn mixed(classes: Vec<u32>, own: f64) -> Self {
        Self {
            others: classes.iter().rev().copied().collect(),
            mixed: Some(own),
            classes,
        }
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Classes of some of the pictures, and of those that they are mixed with.
    pub fn part(&self, pictures: Range<usize>) -> (&[u32], Option<Others<'_>>) {
        let others = self.mixed.map(|own| Others {
            labels: &self.others[pictures.clone()],
            own,
        });
        (&self.classes[pictures], others)
    }
}
