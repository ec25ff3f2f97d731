//! Messages over TCP: a byte for the kind, the length in eight, the bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::transport::{Kind, Message, Side, Transport};

/// How long a read waits before it looks at the clock.
const LOOK: Duration = Duration::from_millis(500);

/// Messages up to so many bytes go out in one packet with their head.
const SMALL: usize = 4 << 10;

/// Memory for a message is taken as it comes, so much at a time: its length is another's word.
const PIECE: usize = 16 << 20;

/// The links of one rank.
#[derive(Debug)]
pub(super) struct Tcp {
    below: Option<Link>,
    above: Option<Link>,
    silence: Duration,
}

#[derive(Debug)]
struct Link {
    writer: Mutex<TcpStream>,
    reader: Mutex<TcpStream>,
    stream: TcpStream,
}

impl Link {
    fn new(stream: TcpStream, silence: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(silence))?;
        Ok(Self {
            writer: Mutex::new(stream.try_clone()?),
            reader: Mutex::new(stream.try_clone()?),
            stream,
        })
    }
}

impl Tcp {
    /// Over these streams; a neighbour that sends nothing for `silence` is taken for dead.
    pub(super) fn new(
        below: Option<TcpStream>,
        above: Option<TcpStream>,
        silence: Duration,
    ) -> io::Result<Self> {
        let link = |stream: Option<TcpStream>| {
            let link = stream.map(|stream| Link::new(stream, silence));
            link.transpose()
        };
        Ok(Self {
            below: link(below)?,
            above: link(above)?,
            silence,
        })
    }

    fn link(&self, side: Side) -> io::Result<&Link> {
        let link = match side {
            Side::Below => &self.below,
            Side::Above => &self.above,
        };
        link.as_ref().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// Fills the buffer, however long it takes, as long as something comes.
    fn fill(&self, mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<()> {
        // Counted in looks: time in which this process was stopped itself is nobody's silence.
        let (mut silent, mut filled) = (Duration::ZERO, 0);
        while filled < buffer.len() {
            match stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    filled += count;
                    silent = Duration::ZERO;
                }
                Err(error) if is_pause(&error) => {
                    silent += LOOK;
                    if silent > self.silence {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn head(kind: Kind, length: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(9 + length.min(SMALL));
    head.push(kind as u8);
    head.extend((length as u64).to_le_bytes());
    head
}

fn is_pause(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == ErrorKind::WouldBlock || kind == ErrorKind::TimedOut || kind == ErrorKind::Interrupted
}

impl Transport for Tcp {
    fn ping(&self, to: Side) -> io::Result<()> {
        match self.link(to)?.writer.try_lock() {
            Ok(mut stream) => stream.write_all(&head(Kind::Ping, 0)),
            Err(TryLockError::Poisoned(poisoned)) => {
                poisoned.into_inner().write_all(&head(Kind::Ping, 0))
            }
            Err(TryLockError::WouldBlock) => Ok(()),
        }
    }

    fn send(&self, to: Side, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let mut head = head(kind, bytes.len());
        let mut stream = lock(&self.link(to)?.writer);
        if bytes.len() <= SMALL {
            head.extend(bytes);
            return stream.write_all(&head);
        }
        stream.write_all(&head)?;
        stream.write_all(bytes)
    }

    fn receive(&self, from: Side) -> io::Result<Message> {
        let stream = lock(&self.link(from)?.reader);
        let mut head = [0; 9];
        self.fill(&stream, &mut head)?;
        let [kind, length @ ..] = head;
        let kind = Kind::of(kind).ok_or(ErrorKind::InvalidData)?;
        let length = usize::try_from(u64::from_le_bytes(length));
        let length = length.map_err(|_| ErrorKind::InvalidData)?;
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let start = bytes.len();
            bytes.resize(length.min(start + PIECE), 0);
            self.fill(&stream, &mut bytes[start..])?;
        }
        Ok(Message { kind, bytes })
    }

    fn close(&self, side: Side) {
        if let Ok(link) = self.link(side) {
            // Closed already is as good.
            let _ = link.stream.shutdown(Shutdown::Write);
        }
    }

    fn finish(&self, _exit: Option<u8>) {
        for link in [&self.below, &self.above].into_iter().flatten() {
            let _ = link.stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
