//! Files that come, grow, move and go.

use super::*;
use std::convert::Infallible;
use std::fs::File;
use std::io::Write;

struct Desk {
    folder: tempfile::TempDir,
    arrivals: Arrivals,
    now: Instant,
    bad: Vec<&'static str>,
    warnings: Vec<String>,
}

impl Desk {
    fn new(skip: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots = [folder.path().to_path_buf()];
        Self {
            arrivals: Arrivals::of(&roots, skip),
            folder,
            now: Instant::now(),
            bad: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// What a look after so many milliseconds hands over.
    fn look(&mut self, after: u64) -> Vec<String> {
        self.now += Duration::from_millis(after);
        let mut names = Vec::new();
        let bad = self.bad.clone();
        let taken: Result<_, Infallible> = self.arrivals.look(self.now, &mut |due| {
            let mut fates = Vec::new();
            for arrival in due {
                let name = arrival.path.file_name().unwrap().to_str().unwrap();
                let is_bad = bad.contains(&name);
                if !is_bad || arrival.last {
                    names.push(name.to_owned());
                }
                fates.push(if is_bad { Fate::Unreadable } else { Fate::Done });
            }
            Ok(Some(fates))
        });
        let Ok(warnings) = taken;
        self.warnings.extend(warnings);
        names
    }
}

#[test]
fn each_version_of_a_file_comes_once_and_when_it_rests() {
    let mut desk = Desk::new(false);
    desk.put("b.png", "b");
    desk.put("a.png", "a");
    desk.put("note.txt", "no picture");
    desk.put(".hidden.png", "x");
    desk.put("c.png.part", "x");
    assert!(desk.look(0).is_empty());
    assert_eq!(desk.look(1000), ["a.png", "b.png"]);
    assert!(desk.look(1000).is_empty());
    // Still being written.
    let mut file = File::create(desk.path("c.png")).unwrap();
    for _ in 0..3 {
        file.write_all(b"more").unwrap();
        assert!(desk.look(1000).is_empty());
    }
    assert_eq!(desk.look(1000), ["c.png"]);
    desk.put("a.png", "another");
    assert!(desk.look(0).is_empty());
    assert_eq!(desk.look(1000), ["a.png"]);
    fs::create_dir(desk.path("deep")).unwrap();
    desk.put("deep/d.png", "d");
    assert!(desk.look(1000).is_empty());
    assert_eq!(desk.look(1000), ["d.png"]);
    // Four pictures, the note, and the part; what is gone is forgotten.
    assert_eq!(desk.arrivals.known(), 6);
    fs::remove_file(desk.path("b.png")).unwrap();
    desk.look(1000);
    assert_eq!(desk.arrivals.known(), 5);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_moved_in_comes_at_once() {
    let mut desk = Desk::new(true);
    desk.put("old.png", "old");
    assert!(desk.look(0).is_empty());
    let other = tempfile::tempdir_in(desk.folder.path().parent().unwrap()).unwrap();
    let from = other.path().join("x.png");
    fs::write(&from, "new").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    fs::rename(&from, desk.path("new.png")).unwrap();
    assert_eq!(desk.look(0), ["new.png"]);
    assert!(desk.look(9000).is_empty());
}

#[test]
fn what_cannot_be_read_is_tried_again_and_told_once() {
    let mut desk = Desk::new(false);
    desk.bad = vec!["bad.png", "slow.png"];
    desk.put("bad.png", "bad");
    desk.put("slow.png", "half");
    assert!(desk.look(0).is_empty() && desk.look(1000).is_empty());
    assert!(desk.look(1000).is_empty(), "it rests too shortly");
    desk.bad = vec!["bad.png"];
    desk.put("slow.png", "whole");
    assert!(desk.look(1000).is_empty());
    assert_eq!(desk.look(2000), ["bad.png", "slow.png"]);
    assert!(desk.look(9000).is_empty());
}

#[test]
fn a_folder_that_is_away_for_a_while_brings_nothing_twice() {
    let mut desk = Desk::new(false);
    desk.put("a.png", "a");
    desk.look(0);
    assert_eq!(desk.look(1000).len(), 1);
    let away = desk.folder.path().with_extension("away");
    fs::rename(desk.folder.path(), &away).unwrap();
    assert!(desk.look(1000).is_empty() && desk.look(1000).is_empty());
    assert_eq!(desk.warnings.len(), 1, "{:?}", desk.warnings);
    fs::rename(&away, desk.folder.path()).unwrap();
    assert!(desk.look(1000).is_empty() && desk.look(9000).is_empty());
    fs::remove_dir_all(desk.folder.path()).unwrap();
    desk.look(1000);
    assert_eq!(desk.warnings.len(), 2);
}

#[cfg(unix)]
#[test]
fn links_in_circles_end() {
    let mut desk = Desk::new(false);
    fs::create_dir(desk.path("in")).unwrap();
    desk.put("in/a.png", "a");
    std::os::unix::fs::symlink(desk.folder.path(), desk.path("in/round")).unwrap();
    desk.look(0);
    assert_eq!(desk.look(1000), ["a.png"]);
}
