//! Several processes that work on one experiment: who they are, how they talk, what they do together.
//!
//! Ranks stand in a chain and talk to their neighbours alone. What they add up goes up the chain, each
//! adding its own behind what those below it added, and the total comes down again: the very sum, in
//! the very order, that one process would compute, for any number of ranks. Cut into pieces, every
//! link carries each value once a way, whatever the number of ranks: no exchange moves less (Patarasuk
//! and Yuan, 2009, <https://doi.org/10.1016/j.jpdc.2008.09.002>).

mod collectives;
mod error;
mod identity;
mod link;
#[cfg(test)]
mod memory;
#[cfg(feature = "mpi")]
mod mpi;
mod rendezvous;
mod tcp;
#[cfg(test)]
mod tests;
mod transport;

#[cfg(test)]
pub(crate) use tests::together;

pub use collectives::Ranks;
pub use error::RankError;
pub use identity::{Identity, Launcher, identity};
