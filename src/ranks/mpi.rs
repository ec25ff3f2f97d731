//! Messages over Open MPI's library, for networks that it knows better than TCP.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, MatchedReceiveVec, Source};

use super::transport::{Kind, Message, Side, Transport};
use super::{Identity, RankError, rendezvous};

/// Bytes of a part, at most: MPI counts in 31 bits.
const PART: usize = 1 << 30;

/// Beside the kind in a tag: more parts follow.
const MORE: i32 = 1 << 8;

/// How long a look for messages spins, and how long it sleeps from then on.
const SPIN: Duration = Duration::from_micros(200);
const SLEEP: Duration = Duration::from_micros(100);

/// Bytes of a machine's name.
const NAME: usize = 64;

/// This process in the world of all ranks.
#[derive(Debug)]
pub(super) struct Mpi {
    universe: Mutex<Option<Holder>>,
    rank: i32,
    silence: Duration,
    /// By [`Side`]: one message after the other.
    senders: [Mutex<()>; 2],
    /// By [`Side`]: whether the neighbour has sent its last.
    over: [AtomicBool; 2],
    stop: AtomicBool,
}

struct Holder(Universe);

impl std::fmt::Debug for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Universe")
    }
}

/// Starts MPI; the machine of each rank.
pub(super) fn join(
    identity: &Identity,
    silence: Duration,
) -> Result<(Mpi, Vec<String>), RankError> {
    let started = mpi::initialize_with_threading(Threading::Multiple);
    let Some((universe, Threading::Multiple)) = started else {
        let message = "this MPI does not let several threads talk";
        return Err(RankError::apart(
            message,
            "build xp without `--features mpi`",
        ));
    };
    let world = universe.world();
    if (world.rank() as usize, world.size() as usize) != (identity.rank, identity.count) {
        let message = format!(
            "mpirun says that this is rank {} of {}, and MPI that it is {} of {}",
            identity.rank,
            identity.count,
            world.rank(),
            world.size()
        );
        let help = "start xp with the mpirun of the MPI that it was built with";
        return Err(RankError::apart(message, help));
    }
    let mut own = [0u8; NAME];
    let name = rendezvous::host();
    let length = name.len().min(NAME);
    own[..length].copy_from_slice(&name.as_bytes()[..length]);
    let mut all = vec![0u8; NAME * identity.count];
    world.all_gather_into(&own[..], &mut all[..]);
    let hosts = all.chunks(NAME).map(|name| {
        let name = String::from_utf8_lossy(name);
        name.trim_end_matches('\0').to_owned()
    });
    let transport = Mpi {
        rank: world.rank(),
        universe: Mutex::new(Some(Holder(universe))),
        silence,
        senders: Default::default(),
        over: Default::default(),
        stop: AtomicBool::new(false),
    };
    Ok((transport, hosts.collect()))
}

impl Mpi {
    fn world(&self) -> io::Result<SimpleCommunicator> {
        let universe = lock(&self.universe);
        let Some(Holder(universe)) = universe.as_ref() else {
            return Err(ErrorKind::NotConnected.into());
        };
        Ok(universe.world())
    }

    fn neighbour(&self, side: Side) -> i32 {
        match side {
            Side::Below => self.rank - 1,
            Side::Above => self.rank + 1,
        }
    }

    /// One part of a message, and its tag.
    fn part(&self, from: Side) -> io::Result<(Vec<u8>, i32)> {
        let began = Instant::now();
        loop {
            if self.stop.load(Ordering::Relaxed) || self.over[from as usize].load(Ordering::Relaxed)
            {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let world = self.world()?;
            let neighbour = world.process_at_rank(self.neighbour(from));
            if let Some(message) = neighbour.immediate_matched_probe() {
                let (bytes, status) = message.matched_receive_vec::<u8>();
                return Ok((bytes, status.tag()));
            }
            match began.elapsed() {
                waited if waited < SPIN => std::thread::yield_now(),
                waited if waited < self.silence => std::thread::sleep(SLEEP),
                _ => return Err(ErrorKind::TimedOut.into()),
            }
        }
    }
}

impl Transport for Mpi {
    fn send(&self, to: Side, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let world = self.world()?;
        let neighbour = world.process_at_rank(self.neighbour(to));
        let _one_at_a_time = lock(&self.senders[to as usize]);
        let mut rest = bytes;
        loop {
            let (part, tail) = rest.split_at(rest.len().min(PART));
            let more = if tail.is_empty() { 0 } else { MORE };
            neighbour.send_with_tag(part, kind as i32 | more);
            if tail.is_empty() {
                return Ok(());
            }
            rest = tail;
        }
    }

    fn receive(&self, from: Side) -> io::Result<Message> {
        let (mut bytes, mut tag) = self.part(from)?;
        while tag & MORE != 0 {
            let (part, next) = self.part(from)?;
            bytes.extend(part);
            tag = next;
        }
        let kind = u8::try_from(tag).ok().and_then(Kind::of);
        let kind = kind.ok_or(ErrorKind::InvalidData)?;
        if kind == Kind::Bye {
            self.over[from as usize].store(true, Ordering::Relaxed);
        }
        Ok(Message { kind, bytes })
    }

    fn close(&self, _side: Side) {}

    fn ping(&self, to: Side) -> io::Result<()> {
        match self.senders[to as usize].try_lock() {
            Err(TryLockError::WouldBlock) => Ok(()),
            _ => self.send(to, Kind::Ping, &[]),
        }
    }

    fn finish(&self, exit: Option<u8>) {
        self.stop.store(true, Ordering::Relaxed);
        // Readers see it.
        std::thread::sleep(10 * SLEEP);
        if let (Some(exit), Ok(world)) = (exit, self.world()) {
            // To wait for a rank that is gone would be for ever: mpirun ends the others.
            world.abort(exit.into());
        }
        lock(&self.universe).take();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
