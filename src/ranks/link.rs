//! One rank's place in the chain: threads that read its neighbours, pass on what comes down, and tell
//! of life and of failure.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::RankError;
use super::transport::{Kind, Message, Side, Transport};

/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// How long who waits for a message goes without a look at what has failed.
const LOOK: Duration = Duration::from_millis(100);

/// How long a rank that ends waits for its neighbours to have heard all that it said.
const FAREWELL: Duration = Duration::from_secs(3);

/// How long the first rank may write once all have stopped.
const WRITING: Duration = Duration::from_secs(120);

/// Kinds of messages that have queues.
const QUEUES: usize = 4;

/// What the threads of a rank share.
#[derive(Debug)]
struct Shared {
    rank: usize,
    hosts: Vec<String>,
    transport: Box<dyn Transport>,
    failure: Mutex<Option<RankError>>,
    changed: Condvar,
    asked: AtomicBool,
    leaving: AtomicBool,
    /// By [`Side`]: whether the neighbour has said that it ends.
    ended: [AtomicBool; 2],
}

/// A rank that talks to its neighbours.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    queues: [Mutex<Receiver<Vec<u8>>>; QUEUES],
    senders: [Sender<Vec<u8>>; QUEUES],
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Link {
    /// Rank `rank` of as many as there are hosts.
    pub(super) fn start(
        rank: usize,
        hosts: Vec<String>,
        transport: Box<dyn Transport>,
    ) -> io::Result<Self> {
        let pairs: [_; QUEUES] = std::array::from_fn(|_| channel());
        let senders = pairs.each_ref().map(|(sender, _)| sender.clone());
        let shared = Arc::new(Shared {
            rank,
            hosts,
            transport,
            failure: Mutex::default(),
            changed: Condvar::new(),
            asked: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            ended: Default::default(),
        });
        let mut threads = Vec::new();
        for side in Side::BOTH.into_iter().filter(|&side| shared.has(side)) {
            let (own, senders) = (Arc::clone(&shared), senders.clone());
            let thread = std::thread::Builder::new().name(format!("rank-{side:?}"));
            threads.push(thread.spawn(move || own.read(side, &senders))?);
        }
        // A side each: a neighbour that takes nothing must not keep the other from hearing.
        for side in Side::BOTH.into_iter().filter(|&side| shared.has(side)) {
            let own = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("beat-{side:?}"));
            threads.push(thread.spawn(move || own.beat(side))?);
        }
        Ok(Self {
            shared,
            queues: pairs.map(|(_, receiver)| Mutex::new(receiver)),
            senders,
            threads: Mutex::new(threads),
        })
    }

    pub(super) fn rank(&self) -> usize {
        self.shared.rank
    }

    pub(super) fn hosts(&self) -> &[String] {
        &self.shared.hosts
    }

    pub(super) fn has(&self, side: Side) -> bool {
        self.shared.has(side)
    }

    /// Sends a message, unless something has failed: nobody goes on from there.
    pub(super) fn send(&self, to: Side, kind: Kind, bytes: &[u8]) -> Result<(), RankError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let sent = self.shared.transport.send(to, kind, bytes);
        sent.map_err(|error| self.shared.lost(to, &error))
    }

    /// Puts a message into the queue of this rank itself.
    pub(super) fn deliver(&self, kind: Kind, bytes: Vec<u8>) {
        // The receiver lives as long as the sender.
        let _ = self.senders[kind as usize].send(bytes);
    }

    /// Waits for the next message of a kind.
    pub(super) fn receive(&self, kind: Kind) -> Result<Vec<u8>, RankError> {
        let queue = lock(&self.queues[kind as usize]);
        loop {
            match queue.recv_timeout(LOOK) {
                Ok(bytes) => return Ok(bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if let Some(failure) = self.failure() {
                        return Err(failure);
                    }
                    let from = kind.comes_from();
                    if self.shared.ended[from as usize].load(Ordering::Relaxed)
                        && let Ok(bytes) = queue.recv_timeout(LOOK)
                    {
                        return Ok(bytes);
                    }
                    if self.shared.ended[from as usize].load(Ordering::Relaxed) {
                        let early = ErrorKind::UnexpectedEof.into();
                        return Err(self.shared.lost(from, &early));
                    }
                }
            }
        }
    }

    /// What has failed, if anything has.
    pub(super) fn failure(&self) -> Option<RankError> {
        lock(&self.shared.failure).clone()
    }

    /// Waits until something fails or this rank leaves.
    pub(super) fn wait_for_failure(&self) -> Option<RankError> {
        let mut failure = lock(&self.shared.failure);
        while failure.is_none() && !self.shared.leaving.load(Ordering::Relaxed) {
            let waited = self.shared.changed.wait(failure);
            failure = waited.unwrap_or_else(PoisonError::into_inner);
        }
        failure.clone()
    }

    /// Fails, and has all others fail of the same.
    pub(super) fn fail(&self, failure: RankError) {
        self.shared.fail(failure, None);
    }

    /// Tells all that this rank was asked to stop.
    pub(super) fn ask(&self) {
        if !self.shared.asked.swap(true, Ordering::Relaxed) {
            self.shared.tell(None, Kind::Asked, &[]);
        }
    }

    /// Whether any rank has been asked to stop.
    pub(super) fn asked(&self) -> bool {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// Ends in good order: neighbours are told, and get what is under way. What ends early waits for
    /// the rank below, and so for the first, which still writes: a launcher ends all when one ends with
    /// an error.
    pub(super) fn leave(&self) {
        let shared = &self.shared;
        if shared.has(Side::Below) && self.asked() {
            let until = Instant::now() + WRITING;
            let goes_on = || !shared.ended[Side::Below as usize].load(Ordering::Relaxed);
            while Instant::now() < until && goes_on() && self.failure().is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        {
            // Under the lock, so that nobody who is about to wait misses it.
            let _failure = lock(&shared.failure);
            shared.leaving.store(true, Ordering::Relaxed);
        }
        shared.changed.notify_all();
        shared.tell(None, Kind::Bye, &[]);
        for side in Side::BOTH {
            shared.transport.close(side);
        }
        let until = Instant::now() + FAREWELL;
        let mut threads = lock(&self.threads);
        while Instant::now() < until && threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(2));
        }
        threads.clear();
        let exit = lock(&shared.failure).as_ref().map(RankError::exit);
        shared.transport.finish(exit);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.shared.leaving.load(Ordering::Relaxed) {
            self.leave();
        }
    }
}

impl Shared {
    fn has(&self, side: Side) -> bool {
        match side {
            Side::Below => self.rank > 0,
            Side::Above => self.rank + 1 < self.hosts.len(),
        }
    }

    /// Sends to both neighbours but the one that it comes from; who does not hear it is found out
    /// elsewhere.
    fn tell(&self, except: Option<Side>, kind: Kind, bytes: &[u8]) {
        for side in Side::BOTH {
            if self.has(side) && except != Some(side) {
                let _ = self.transport.send(side, kind, bytes);
            }
        }
    }

    /// The first failure counts; what follows from it does not.
    fn fail(&self, failure: RankError, from: Option<Side>) {
        {
            let mut known = lock(&self.failure);
            if known.is_some() {
                return;
            }
            *known = Some(failure.clone());
        }
        self.changed.notify_all();
        let text = serde_json::to_vec(&failure).unwrap_or_default();
        self.tell(from, Kind::Failure, &text);
    }

    /// Takes a neighbour for lost; what is known to have failed by then.
    fn lost(&self, side: Side, error: &io::Error) -> RankError {
        // It may have said why, before it closed the link.
        std::thread::sleep(LOOK);
        let rank = match side {
            Side::Below => self.rank - 1,
            Side::Above => self.rank + 1,
        };
        let how = match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "does not answer any more".into(),
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe => "is gone".into(),
            _ => format!("cannot be reached: {error}"),
        };
        let lost = RankError::Lost {
            rank,
            host: self.hosts[rank].clone(),
            how,
        };
        self.fail(lost.clone(), Some(side));
        lock(&self.failure).clone().unwrap_or(lost)
    }

    fn read(&self, side: Side, queues: &[Sender<Vec<u8>>; QUEUES]) {
        loop {
            let Message { kind, bytes } = match self.transport.receive(side) {
                Ok(message) => message,
                Err(error) => {
                    let ended = self.ended[side as usize].load(Ordering::Relaxed);
                    if !ended && !self.leaving.load(Ordering::Relaxed) {
                        self.lost(side, &error);
                    }
                    return;
                }
            };
            match kind {
                Kind::GatherUp | Kind::SumUp => {
                    let _ = queues[kind as usize].send(bytes);
                }
                Kind::GatherDown | Kind::SumDown => {
                    // Passed on before anything else: those below wait for it, too.
                    if self.has(Side::Below) {
                        let sent = self.transport.send(Side::Below, kind, &bytes);
                        if let Err(error) = sent {
                            self.lost(Side::Below, &error);
                        }
                    }
                    let _ = queues[kind as usize].send(bytes);
                }
                Kind::Ping => {}
                Kind::Asked => {
                    if !self.asked.swap(true, Ordering::Relaxed) {
                        self.tell(Some(side), Kind::Asked, &[]);
                    }
                }
                Kind::Failure => {
                    if let Ok(failure) = serde_json::from_slice(&bytes) {
                        self.fail(failure, Some(side));
                    }
                }
                Kind::Bye => self.ended[side as usize].store(true, Ordering::Relaxed),
            }
        }
    }

    fn beat(&self, side: Side) {
        let mut failure = lock(&self.failure);
        while !self.leaving.load(Ordering::Relaxed) {
            drop(failure);
            // Who does not hear it is found out by those who read.
            let _ = self.transport.ping(side);
            failure = lock(&self.failure);
            if !self.leaving.load(Ordering::Relaxed) {
                let waited = self.changed.wait_timeout(failure, BEAT);
                (failure, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
