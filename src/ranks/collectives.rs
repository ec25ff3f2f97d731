//! What ranks do together, on top of messages between neighbours.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::link::Link;
use super::transport::{Kind, Side, Transport};
use super::{Identity, RankError, rendezvous};

/// Ranks that work without a word to each other agree this often on whether to stop.
const AGREE: Duration = Duration::from_millis(50);

/// At most so many questions go unasked between two that are.
const MOST_SKIPPED: f64 = 1000.0;

/// This process among those of its experiment, or alone. Cheap to clone. All ranks must call what
/// they do together in the same order.
#[derive(Debug, Clone, Default)]
pub struct Ranks(Option<Arc<Team>>);

#[derive(Debug)]
struct Team {
    link: Link,
    /// Whether this rank wants to stop, as its next gather will say.
    wants: AtomicBool,
    /// Whether any had wanted to as of the last gather.
    wanted: AtomicBool,
    gathers: AtomicU64,
    agreement: Mutex<Agreement>,
}

/// When ranks last agreed on whether to stop.
#[derive(Debug)]
struct Agreement {
    gathers: u64,
    /// Questions that are answered without asking the others.
    skip: u32,
    skipped: u32,
    at: Instant,
}

impl Ranks {
    /// One process alone, which talks to nobody.
    pub fn alone() -> Self {
        Self(None)
    }

    /// Finds the others; a rank that is not heard from for `silence` is taken for dead from then on.
    ///
    /// # Errors
    /// If they do not come together in time or do not fit.
    pub fn join(identity: &Identity, silence: Duration) -> Result<Self, RankError> {
        #[cfg(feature = "mpi")]
        if identity.launcher == super::Launcher::OpenMpi {
            let (transport, hosts) = super::mpi::join(identity, silence)?;
            return Self::over(identity.rank, hosts, Box::new(transport));
        }
        let (transport, hosts) = rendezvous::join(identity, silence)?;
        Self::over(identity.rank, hosts, Box::new(transport))
    }

    pub(super) fn over(
        rank: usize,
        hosts: Vec<String>,
        transport: Box<dyn Transport>,
    ) -> Result<Self, RankError> {
        let link = Link::start(rank, hosts, transport).map_err(|error| {
            let message = format!("cannot start the threads that talk to other ranks: {error}");
            RankError::apart(message, "raise the limit of threads (`ulimit -u`)")
        })?;
        Ok(Self(Some(Arc::new(Team {
            link,
            wants: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            gathers: AtomicU64::new(0),
            agreement: Mutex::new(Agreement {
                gathers: 0,
                skip: 0,
                skipped: 0,
                at: Instant::now(),
            }),
        }))))
    }

    /// Whether there is no other.
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// This one's number.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |team| team.link.rank())
    }

    /// Whether this is the one that writes.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.hosts().len().max(1)
    }

    /// The machine of each; empty for one alone.
    pub fn hosts(&self) -> &[String] {
        self.0.as_ref().map_or(&[], |team| team.link.hosts())
    }

    /// How many of them share this machine.
    pub fn on_this_host(&self) -> usize {
        let hosts = self.hosts();
        let own = hosts.get(self.rank());
        hosts
            .iter()
            .filter(|host| Some(*host) == own)
            .count()
            .max(1)
    }

    /// Which of so many things in a row are this rank's: parts follow each other in the order of
    /// ranks, and the first are the longer ones.
    pub fn part(&self, things: usize) -> Range<usize> {
        self.part_of(self.rank(), things)
    }

    /// The same of another rank.
    pub fn part_of(&self, rank: usize, things: usize) -> Range<usize> {
        let (each, more) = (things / self.count(), things % self.count());
        let start = rank * each + rank.min(more);
        start..start + each + usize::from(rank < more)
    }

    /// What every rank brings, in their order.
    pub fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RankError> {
        let Some(team) = &self.0 else {
            return Ok(vec![own]);
        };
        let link = &team.link;
        let mut all = match link.has(Side::Below) {
            true => link.receive(Kind::GatherUp)?,
            false => Vec::new(),
        };
        all.push(u8::from(team.wants.load(Ordering::Relaxed)));
        all.extend((own.len() as u64).to_le_bytes());
        all.extend(own);
        let all = if link.has(Side::Above) {
            link.send(Side::Above, Kind::GatherUp, &all)?;
            link.receive(Kind::GatherDown)?
        } else {
            link.send(Side::Below, Kind::GatherDown, &all)?;
            all
        };
        let mut wanted = false;
        let mut parts = Vec::with_capacity(self.count());
        let mut rest = all.as_slice();
        while let Some((head, tail)) = rest.split_at_checked(9) {
            wanted |= head[0] != 0;
            let length = head[1..].iter().rev();
            let length = length.fold(0, |length, byte| length << 8 | usize::from(*byte));
            let (part, tail) = tail.split_at(length.min(tail.len()));
            parts.push(part.to_vec());
            rest = tail;
        }
        team.wanted.store(wanted, Ordering::Relaxed);
        team.gathers.fetch_add(1, Ordering::Relaxed);
        Ok(parts)
    }

    /// The values that every rank brings, one after the other.
    pub fn gather_values(&self, own: Vec<f32>) -> Result<Vec<f32>, RankError> {
        if self.is_alone() {
            return Ok(own);
        }
        let parts = self.gather(to_bytes(&own))?;
        Ok(parts.iter().flat_map(|part| to_values(part)).collect())
    }

    /// What the first rank has; the others bring nothing.
    pub fn from_first(&self, own: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, RankError> {
        let own = if self.is_first() { own() } else { Vec::new() };
        Ok(self.gather(own)?.swap_remove(0))
    }

    /// The next piece of a sum as the ranks below leave it; `None` for the first rank, which begins it.
    /// Goes with [`Self::pass_sum`] and [`Self::total`]: every rank takes and passes on each piece, and
    /// gets the total of all pieces in the same order; it may pass on many before it asks for a total.
    pub fn sum_so_far(&self) -> Result<Option<Vec<f32>>, RankError> {
        match &self.0 {
            Some(team) if team.link.has(Side::Below) => {
                Ok(Some(to_values(&team.link.receive(Kind::SumUp)?)))
            }
            _ => Ok(None),
        }
    }

    /// Hands a piece of a sum on, with this rank's part in it.
    pub fn pass_sum(&self, piece: &[f32]) -> Result<(), RankError> {
        let Some(team) = &self.0 else {
            return Ok(());
        };
        let (link, bytes) = (&team.link, to_bytes(piece));
        if link.has(Side::Above) {
            return link.send(Side::Above, Kind::SumUp, &bytes);
        }
        link.send(Side::Below, Kind::SumDown, &bytes)?;
        link.deliver(Kind::SumDown, bytes);
        Ok(())
    }

    /// The next piece of the total.
    pub fn total(&self) -> Result<Vec<f32>, RankError> {
        match &self.0 {
            Some(team) => Ok(to_values(&team.link.receive(Kind::SumDown)?)),
            None => Ok(Vec::new()),
        }
    }

    /// Whether to stop, if this rank wants to or not: all get the same answer to the same question, and
    /// stop as soon as one wants to. What they have gathered since the last question has brought the
    /// answer along; where they work without a word to each other, they ask only now and then.
    pub fn agree(&self, wanted: bool) -> Result<bool, RankError> {
        let Some(team) = &self.0 else {
            return Ok(wanted);
        };
        if wanted {
            self.ask();
        }
        let mut last = team
            .agreement
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.gathers == team.gathers.load(Ordering::Relaxed) {
            if last.skipped < last.skip {
                last.skipped += 1;
                return Ok(false);
            }
            let questions = f64::from(last.skip + 1);
            let each = last.at.elapsed().as_secs_f64() / questions;
            let skip = (AGREE.as_secs_f64() / each.max(1e-9)).min(MOST_SKIPPED) as u32;
            let skip = self.from_first(|| skip.to_le_bytes().to_vec())?;
            last.skip = skip.try_into().map_or(0, u32::from_le_bytes);
        }
        last.skipped = 0;
        last.at = Instant::now();
        last.gathers = team.gathers.load(Ordering::Relaxed);
        Ok(team.wanted.load(Ordering::Relaxed))
    }

    /// Wants to stop, and lets all others know at once; they still have to [agree](Self::agree) on
    /// where.
    pub fn ask(&self) {
        if let Some(team) = &self.0 {
            team.wants.store(true, Ordering::Relaxed);
            team.link.ask();
        }
    }

    /// Whether any rank is known to want to stop: ranks may learn that at different moments.
    pub fn asked(&self) -> bool {
        self.0.as_ref().is_some_and(|team| team.link.asked())
    }

    /// What has failed among them, if anything has.
    pub fn failure(&self) -> Option<RankError> {
        self.0.as_ref().and_then(|team| team.link.failure())
    }

    /// Waits until something fails; `None` once this rank has left.
    pub fn wait_for_failure(&self) -> Option<RankError> {
        self.0
            .as_ref()
            .and_then(|team| team.link.wait_for_failure())
    }

    /// Has all others fail of what this rank has failed of.
    pub fn fail(&self, exit: u8, message: &str, help: Option<&str>) {
        if let Some(team) = &self.0 {
            team.link.fail(RankError::Failed {
                rank: self.rank(),
                host: self.hosts()[self.rank()].clone(),
                exit,
                message: message.into(),
                help: help.map(str::to_owned),
            });
        }
    }

    /// Leaves, so that nobody takes this rank for lost.
    pub fn leave(&self) {
        if let Some(team) = &self.0 {
            team.link.leave();
        }
    }
}

/// As the wire has them: little-endian.
pub(super) fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(values)];
    let to = bytes.chunks_exact_mut(size_of::<f32>());
    for (to, value) in to.zip(values) {
        to.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

pub(super) fn to_values(bytes: &[u8]) -> Vec<f32> {
    let value = |bytes: &[u8]| bytes.try_into().map_or(0.0, f32::from_le_bytes);
    bytes.chunks_exact(size_of::<f32>()).map(value).collect()
}
