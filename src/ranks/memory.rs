//! Messages between threads of one process, for tests.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::transport::{Kind, Message, Side, Transport};

#[derive(Debug, Default)]
struct Link {
    sender: Mutex<Option<Sender<Message>>>,
    receiver: Mutex<Option<Receiver<Message>>>,
}

/// One end of a chain of threads.
#[derive(Debug, Default)]
pub(super) struct Memory {
    below: Link,
    above: Link,
}

impl Memory {
    /// A chain of so many.
    pub(super) fn chain(count: usize) -> Vec<Self> {
        let mut chain: Vec<Self> = (0..count).map(|_| Self::default()).collect();
        for rank in 1..count {
            let (up, from_below) = channel();
            let (down, from_above) = channel();
            chain[rank - 1].above = Link::new(up, from_above);
            chain[rank].below = Link::new(down, from_below);
        }
        chain
    }

    fn link(&self, side: Side) -> &Link {
        match side {
            Side::Below => &self.below,
            Side::Above => &self.above,
        }
    }
}

impl Link {
    fn new(sender: Sender<Message>, receiver: Receiver<Message>) -> Self {
        Self {
            sender: Mutex::new(Some(sender)),
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Transport for Memory {
    fn send(&self, to: Side, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let sender = &self.link(to).sender;
        let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
        let message = Message {
            kind,
            bytes: bytes.to_vec(),
        };
        let sent = sender.as_ref().map(|sender| sender.send(message));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn receive(&self, from: Side) -> io::Result<Message> {
        let receiver = &self.link(from).receiver;
        let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
        let message = receiver.as_ref().and_then(|it| it.recv().ok());
        message.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    fn close(&self, side: Side) {
        let sender = &self.link(side).sender;
        sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn finish(&self, _exit: Option<u8>) {}
}
