use std::collections::BTreeSet;
use std::time::Duration;

use candle_core::{Device, Tensor};

use super::*;
use crate::engine::cache::{FeatureCache, Place};

const ELEMENTS: usize = 3;

fn hash(number: u8) -> PictureHash {
    [number; 32]
}

/// What the network would compute for a picture.
fn features(number: u8) -> Vec<f32> {
    (0..ELEMENTS)
        .map(|i| f32::from(number) + 0.1 * i as f32)
        .collect()
}

fn store(folder: &Path) -> FeatureStore {
    FeatureStore::new(folder.join("features"), 1 << 20)
}

fn open(store: &FeatureStore, name: &str) -> (Entry, Vec<StoreError>) {
    store.open(&blake3::hash(name.as_bytes()), ELEMENTS, About::default())
}

/// Computes what is missing of these pictures; gives how many were there and all values.
fn run(store: &FeatureStore, pictures: &[u8], place: Place) -> (usize, Vec<f32>, Vec<String>) {
    let (entry, errors) = open(store, "key");
    let hashes: Vec<PictureHash> = pictures.iter().copied().map(hash).collect();
    let dims = [vec![ELEMENTS]];
    let mut cache = FeatureCache::new(&hashes, &dims, place, Some(entry), &Device::Cpu);
    let ready = cache.ready();
    for at in cache.missing() {
        let row = Tensor::from_vec(features(pictures[at]), (1, ELEMENTS), &Device::Cpu).unwrap();
        cache.store(&[at], &[row]).unwrap();
    }
    assert!(cache.finish().is_none());
    let all: Vec<usize> = (0..pictures.len()).collect();
    let values = cache.gather(&all).unwrap().remove(0);
    let values = values.flatten_all().unwrap().to_vec1().unwrap();
    let errors = errors.iter().map(ToString::to_string).collect();
    (ready, values, errors)
}

fn expected(pictures: &[u8]) -> Vec<f32> {
    pictures.iter().copied().flat_map(features).collect()
}

#[test]
fn other_runs_find_rows_by_picture_whatever_their_order_and_split() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for (pictures, place, reused) in [
        (&[1, 2, 3][..], Place::Memory, 0),
        (&[3, 1], Place::Memory, 2),
        (&[3, 9, 1], Place::Disk, 2),
        (&[9, 1, 2, 3, 9], Place::Disk, 5),
        (&[7, 7], Place::Disk, 0),
        (&[1, 2, 3, 7, 9], Place::Memory, 5),
    ] {
        let (ready, values, errors) = run(&store, pictures, place);
        assert_eq!(
            (ready, values),
            (reused, expected(pictures)),
            "{pictures:?}"
        );
        assert!(errors.is_empty());
    }
    let (other, _) = open(&store, "another key");
    assert!(!other.holds(&hash(1)));
}

#[test]
fn damage_is_told_once_and_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let damages: [fn(Vec<u8>) -> Vec<u8>; 2] = [
        |mut bytes| {
            let middle = bytes.len() - 40;
            bytes[middle] ^= 1;
            bytes
        },
        |bytes| bytes[..bytes.len() / 2].to_vec(),
    ];
    for damage in damages {
        run(&store, &[1, 2], Place::Memory);
        run(&store, &[1, 2, 5], Place::Memory);
        let (entry, _) = open(&store, "key");
        let broken = tidy::segments(&entry.folder)
            .into_iter()
            .find(|path| segment::Header::read(path).unwrap().rows == 2)
            .unwrap();
        fs::write(&broken, damage(fs::read(&broken).unwrap())).unwrap();
        let (ready, values, errors) = run(&store, &[1, 2, 5], Place::Disk);
        assert_eq!((ready, values), (1, expected(&[1, 2, 5])));
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("are damaged"), "{errors:?}");
        let (ready, _, errors) = run(&store, &[1, 2, 5], Place::Disk);
        assert_eq!((ready, errors.len()), (3, 0));
        store.tidy(0, &BTreeSet::new(), false).unwrap();
    }
}

#[test]
fn writers_at_once_agree_and_leave_one_copy() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let pictures: Vec<u8> = (0..50).collect();
    std::thread::scope(|scope| {
        for place in [Place::Memory, Place::Disk, Place::Memory, Place::Disk] {
            let (store, pictures) = (&store, &pictures);
            scope.spawn(move || {
                let (_, values, errors) = run(store, pictures, place);
                assert!(values == expected(pictures) && errors.is_empty());
            });
        }
    });
    assert_eq!(store.list().unwrap()[0].pictures, 50);
}

#[test]
fn a_killed_writer_leaves_what_is_ignored_and_later_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    run(&store, &[1], Place::Memory);
    let (entry, _) = open(&store, "key");
    let left = entry.folder.join(".abc123.tmp");
    fs::write(&left, "half of a seg").unwrap();
    let (ready, _, errors) = run(&store, &[1], Place::Memory);
    assert_eq!((ready, errors.len()), (1, 0));
    store.tidy(u64::MAX, &BTreeSet::new(), false).unwrap();
    assert!(left.exists(), "a writer may be at work");
    let file = fs::File::options().append(true).open(&left).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200))
        .unwrap();
    store.tidy(u64::MAX, &BTreeSet::new(), false).unwrap();
    assert!(!left.exists());
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn the_least_recently_used_go_first_and_readers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for (age, name) in ["new", "old", "older", "spared"].iter().enumerate() {
        let (mut entry, _) = open(&store, name);
        entry.append(&[hash(1)], &features(1)).unwrap();
        let about = fs::File::options()
            .append(true)
            .open(entry.folder.join(ABOUT))
            .unwrap();
        let used = SystemTime::now() - Duration::from_secs(100 * age as u64);
        about.set_modified(used).unwrap();
    }
    let foreign = store.root().join("notes.txt");
    fs::write(&foreign, "mine").unwrap();
    let name = |name: &str| open(&store, name).0.name();
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 4);
    let spared = BTreeSet::from([listed[3].name.clone()]);
    let room = 2 * listed[0].bytes;

    let dry = store.tidy(room, &spared, true).unwrap();
    assert_eq!(dry.removed.len(), 2);
    assert_eq!(store.list().unwrap().len(), 4);
    let reader = {
        // As `open`, without a new time of use.
        let path = tidy::segments(&store.root().join(&listed[2].name)).remove(0);
        Segment::open(&path, ELEMENTS, true).unwrap()
    };
    let tidied = store.tidy(room, &spared, false).unwrap();
    assert_eq!(tidied.left, room);
    let left: Vec<String> = store
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(left, [name("new"), name("spared")]);
    let mut row = vec![0.0; ELEMENTS];
    reader.read(0, 0, &mut row);
    assert_eq!(row, features(1), "what is mapped stays");

    store.tidy(0, &BTreeSet::new(), false).unwrap();
    assert!(store.list().unwrap().is_empty() && foreign.exists());
}

#[test]
fn without_disk_space_memory_serves_and_the_rest_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    // A file where the folder should be: every write fails.
    let root = folder.path().join("features");
    fs::write(&root, "").unwrap();
    let store = FeatureStore::new(root, 1 << 20);
    for place in [Place::Memory, Place::Disk] {
        let (entry, _) = open(&store, "key");
        let dims = [vec![ELEMENTS]];
        let mut cache = FeatureCache::new(&[hash(1)], &dims, place, Some(entry), &Device::Cpu);
        let row = Tensor::from_vec(features(1), (1, ELEMENTS), &Device::Cpu).unwrap();
        cache.store(&[0], &[row]).unwrap();
        assert!(cache.finish().is_some());
        assert_eq!(cache.ready(), usize::from(place == Place::Memory));
    }
}

#[test]
fn builds_vouch_for_what_they_computed_or_compared_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let build = crate::program::installed().unwrap();
    let vouches = |build: &str| open(&store, "key").0.is_agreed(build);
    run(&store, &[1, 2], Place::Memory);
    assert!(vouches(build), "an entry that is all of its making");
    let (entry, _) = open(&store, "key");
    entry.disagree();
    entry.agree("other");
    assert!(!vouches(build) && vouches("other"));
    // Rows of other pictures: there is nothing to compare, and now nobody knows all of them.
    run(&store, &[3], Place::Memory);
    assert!(!vouches(build) && !vouches("other"));
}
