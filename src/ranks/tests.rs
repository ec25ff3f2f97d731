//! Ranks as threads.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::memory::Memory;
use super::{Identity, Launcher, RankError, Ranks};

/// What each of so many ranks makes of it, in their order.
pub(crate) fn together<T: Send>(count: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let hosts: Vec<String> = (0..count).map(|rank| format!("host{rank}")).collect();
    std::thread::scope(|scope| {
        let chain = Memory::chain(count).into_iter().enumerate();
        let threads: Vec<_> = chain
            .map(|(rank, link)| {
                let (hosts, work) = (hosts.clone(), &work);
                scope.spawn(move || {
                    let ranks = Ranks::over(rank, hosts, Box::new(link)).unwrap();
                    let made = work(ranks.clone());
                    ranks.leave();
                    made
                })
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

#[test]
fn parts_follow_each_other() {
    for things in [0, 1, 2, 3, 4, 7, 100] {
        let parts = together(4, |ranks| ranks.part(things));
        let all: Vec<usize> = parts.into_iter().flatten().collect();
        assert_eq!(all, (0..things).collect::<Vec<_>>());
    }
}

#[test]
fn all_get_what_each_brings() {
    for count in 2..5 {
        let found = together(count, |ranks| {
            let own = vec![ranks.rank() as u8; ranks.rank()];
            (
                ranks.gather(own).unwrap(),
                ranks.from_first(|| vec![7]).unwrap(),
            )
        });
        let expected: Vec<Vec<u8>> = (0..count).map(|rank| vec![rank as u8; rank]).collect();
        assert!(found.iter().all(|it| *it == (expected.clone(), vec![7])));
    }
}

#[test]
fn a_sum_is_that_of_one_process() {
    // Of values whose sum depends on the order.
    let value =
        |rank: usize, at: usize| ((rank * 31 + at) as f32).sin() * 1e3f32.powi(at as i32 % 3);
    const PIECES: usize = 5;
    for count in 2..6 {
        let totals = together(count, |ranks| {
            for piece in 0..PIECES {
                let mut sum = ranks
                    .sum_so_far()
                    .unwrap()
                    .unwrap_or_else(|| vec![0.0; 100]);
                for (at, sum) in sum.iter_mut().enumerate() {
                    *sum += value(ranks.rank(), piece * 100 + at);
                }
                ranks.pass_sum(&sum).unwrap();
            }
            let totals = (0..PIECES).flat_map(|_| ranks.total().unwrap());
            totals.map(f32::to_bits).collect::<Vec<_>>()
        });
        let expected: Vec<u32> = (0..PIECES * 100)
            .map(|at| {
                (0..count)
                    .fold(0f32, |sum, rank| sum + value(rank, at))
                    .to_bits()
            })
            .collect();
        assert!(totals.iter().all(|total| *total == expected));
    }
}

#[test]
fn all_stop_at_the_same_question() {
    let stops = together(3, |ranks| {
        (0..100_000).find(|&question| {
            ranks.gather(Vec::new()).unwrap();
            let wants = ranks.rank() == 1 && question >= 5;
            ranks.agree(wants).unwrap()
        })
    });
    // What rank 1 wants before a gather comes along with the next.
    assert_eq!(stops, [Some(6); 3]);
    let silent = together(3, |ranks| {
        let wants = |question: usize| ranks.rank() == 2 && question >= 5;
        (0..100_000).find(|&question| ranks.agree(wants(question)).unwrap())
    });
    assert!(silent[0].is_some() && silent.iter().all(|it| *it == silent[0]));
}

#[test]
fn all_fail_of_what_one_fails_of() {
    let found = together(4, |ranks| {
        if ranks.rank() == 2 {
            ranks.fail(3, "no pictures", Some("look there"));
        }
        let failure = ranks.gather(Vec::new()).unwrap_err();
        assert_eq!(ranks.wait_for_failure(), Some(failure.clone()));
        failure
    });
    let expected = RankError::Failed {
        rank: 2,
        host: "host2".into(),
        exit: 3,
        message: "no pictures".into(),
        help: Some("look there".into()),
    };
    assert!(found.iter().all(|it| *it == expected), "{found:?}");
}

#[test]
fn a_rank_that_is_gone_is_named() {
    let found = together(4, |ranks| match ranks.rank() {
        // Dropped without a farewell.
        1 => None,
        _ => Some(ranks.gather(Vec::new()).unwrap_err().to_string()),
    });
    // It says that it ends, which is in order, and then is missed.
    assert!(
        found[0]
            .as_ref()
            .is_some_and(|it| it.contains("rank 1 on `host1`")),
        "{found:?}"
    );
}

fn identity(rank: usize, count: usize, port: u16, secret: u8) -> Identity {
    Identity {
        rank,
        count,
        launcher: Launcher::Torchrun,
        address: "127.0.0.1".into(),
        ports: vec![port],
        secret: [secret; 32],
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

const SILENCE: Duration = Duration::from_secs(5);

#[test]
fn ranks_meet_over_tcp_in_any_order_and_strangers_do_no_harm() {
    let port = free_port();
    let (sender, come) = channel();
    std::thread::scope(|scope| {
        for rank in [3, 1, 0, 2] {
            let sender = sender.clone();
            scope.spawn(move || {
                let ranks = Ranks::join(&identity(rank, 4, port, 1), SILENCE).unwrap();
                let big = vec![rank as f32; 100_000];
                let all = ranks.gather_values(big).unwrap();
                ranks.leave();
                sender.send((rank, all.len(), all[350_000])).unwrap();
            });
            // One that knows another secret, and one that says nothing.
            if rank != 0 {
                scope.spawn(move || {
                    let _quiet = std::net::TcpStream::connect(("127.0.0.1", port));
                    std::thread::sleep(Duration::from_millis(300));
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    drop(sender);
    let mut found: Vec<_> = come.into_iter().collect();
    found.sort_by_key(|it| it.0);
    let expected: Vec<_> = (0..4).map(|rank| (rank, 400_000, 3.0)).collect();
    assert_eq!(found, expected);
}

#[test]
fn ranks_that_do_not_fit_are_refused() {
    let port = free_port();
    std::thread::scope(|scope| {
        let first = scope.spawn(move || Ranks::join(&identity(0, 3, port, 1), SILENCE));
        let other = scope.spawn(move || Ranks::join(&identity(1, 2, port, 1), SILENCE));
        let said = [first, other].map(|it| it.join().unwrap().unwrap_err().to_string());
        assert!(said[0].contains("says that there are 2 ranks"), "{said:?}");
        assert_eq!(said[0], said[1]);
    });
}
