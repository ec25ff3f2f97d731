//! What carries messages between neighbours.

use std::fmt::Debug;
use std::io;

/// A neighbour in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The rank one lower.
    Below,
    /// The rank one higher.
    Above,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Below, Self::Above];
}

/// What a message is for. Up and down, gathers and sums have queues of their own, as threads of their
/// own wait for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    GatherUp = 0,
    SumUp = 1,
    GatherDown = 2,
    SumDown = 3,
    /// A sign of life.
    Ping = 4,
    /// A rank was asked to stop.
    Asked = 5,
    /// A rank has failed: a [`super::RankError`].
    Failure = 6,
    /// Nothing more will come.
    Bye = 7,
}

impl Kind {
    /// Where messages with a queue come from.
    pub(super) fn comes_from(self) -> Side {
        match self {
            Self::GatherUp | Self::SumUp => Side::Below,
            _ => Side::Above,
        }
    }

    pub(super) fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::GatherUp,
            Self::SumUp,
            Self::GatherDown,
            Self::SumDown,
            Self::Ping,
            Self::Asked,
            Self::Failure,
            Self::Bye,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A message from a neighbour.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
}

/// Messages between neighbours, in order and whole. Many threads may send, one a side receives.
pub(super) trait Transport: Send + Sync + Debug {
    /// Sends a message; returns when its bytes are taken.
    fn send(&self, to: Side, kind: Kind, bytes: &[u8]) -> io::Result<()>;

    /// Sends a sign of life, unless a message is under way, which is one.
    fn ping(&self, to: Side) -> io::Result<()> {
        self.send(to, Kind::Ping, &[])
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// `TimedOut` where nothing came for too long, `UnexpectedEof` where nothing more can come.
    fn receive(&self, from: Side) -> io::Result<Message>;

    /// Sends nothing more that way.
    fn close(&self, side: Side);

    /// Ends what of the transport outlives this process; called once, last. `exit` is the code that
    /// all ranks end with if one has failed.
    fn finish(&self, exit: Option<u8>);
}
