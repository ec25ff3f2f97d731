use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::loopback::{Loopback, Reply};
use super::*;

const MODEL: (&str, RepoType) = ("timm/tiny", RepoType::Model);
const FILE: &str = "model.safetensors";

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * at / 7 + at) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A good server of one file.
fn server(content: &[u8], etag: &str) -> Loopback {
    let (content, etag) = (content.to_vec(), etag.to_owned());
    Loopback::serve(move |asked, _| Reply::file(&content, &etag, asked))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_hub_is_asked_once_and_then_the_cache() {
    let content = content(1000);
    let server = server(&content, &sha256(&content));
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(cache.path().into(), server.endpoint.clone(), 0);
    let mut last = None;
    let path = hub
        .fetch(MODEL, "main", FILE, &mut |download| last = Some(download))
        .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content);
    let complete = Download {
        done: 1000,
        total: 1000,
    };
    assert_eq!(last, Some(complete));

    let asked = server.asked().len();
    let again = hub.fetch(MODEL, "main", FILE, &mut |_| ()).unwrap();
    assert_eq!(again, path);
    assert_eq!(server.asked().len(), asked);
}

#[test]
fn a_broken_download_from_the_hub_goes_on_from_where_it_was() {
    let content = content(1000);
    let (served, sum) = (content.clone(), sha256(&content));
    // The first request is whether it is there, the second for size and name.
    let server = Loopback::serve(move |asked, before| {
        let cut = if before == 2 { 500 } else { usize::MAX };
        Reply::file(&served, &sum, asked).cut(cut)
    });
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(cache.path().into(), server.endpoint, 0);
    let broken = hub.fetch(MODEL, "main", FILE, &mut |_| ()).unwrap_err();
    assert!(matches!(broken, FetchError::Hub { .. }), "{broken}");
    let mut first = None;
    let path = hub
        .fetch(MODEL, "main", FILE, &mut |download| {
            first.get_or_insert(download.done);
        })
        .unwrap();
    assert_eq!(first, Some(500));
    assert_eq!(std::fs::read(path).unwrap(), content);
}

#[test]
fn a_download_that_is_not_what_the_hub_promised_is_thrown_away() {
    let server = server(&content(1000), &sha256(b"another file"));
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(cache.path().into(), server.endpoint, 0);
    for _ in 0..2 {
        let error = hub.fetch(MODEL, "main", FILE, &mut |_| ()).unwrap_err();
        assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    }
}

#[test]
fn offline_says_where_to_get_the_file() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(cache.path().into(), format!("http://{closed}"), 0);
    let error = hub.fetch(MODEL, "main", FILE, &mut |_| ()).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("cannot fetch `timm/tiny` from the hub"));
    let help = error.help("`weights = ...`").unwrap();
    assert!(
        help.contains("/timm/tiny/resolve/main/model.safetensors"),
        "{help}"
    );
    assert!(help.contains("weights = "), "{help}");
}

#[test]
fn an_address_is_downloaded_once_and_verified() {
    let content = content(100_000);
    let server = server(&content, "etag");
    let folder = tempfile::tempdir().unwrap();
    let downloads = Downloads::new(folder.path().join("weights"));
    let url = format!("{}/files/tiny.safetensors?download=1", server.endpoint);
    let address = Address::parse(&url).unwrap();
    assert_eq!(downloads.cached(&address), None);
    let mut last = None;
    let path = downloads
        .fetch(&address, &mut |download| last = Some(download))
        .unwrap();
    let complete = Download {
        done: 100_000,
        total: 100_000,
    };
    assert_eq!(last, Some(complete));
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert_eq!(downloads.sha256(&address), Some(sha256(&content)));
    assert_eq!(downloads.fetch(&address, &mut |_| ()).unwrap(), path);
    assert_eq!(server.asked().len(), 1);

    std::fs::write(&path, "something else").unwrap();
    let error = downloads.fetch(&address, &mut |_| ()).unwrap_err();
    assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    assert_eq!(downloads.cached(&address), None);

    let pinned = |sum: &str| Address::parse(&format!("{url}#sha256={sum}")).unwrap();
    let wrong = "0".repeat(64);
    let error = downloads.fetch(&pinned(&wrong), &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("not 0000"), "{error}");
    assert_eq!(downloads.cached(&address), None);
    let sound = pinned(&sha256(&content));
    assert!(downloads.fetch(&sound, &mut |_| ()).is_ok());
    downloads.forget(&sound).unwrap();
    assert_eq!(downloads.cached(&sound), None);
}

/// A server that breaks off after `cut` bytes of each of the first answers, and then answers 503
/// for as long as `down` says.
fn broken(content: &[u8], cuts: usize, down: usize) -> Loopback {
    let content = content.to_vec();
    Loopback::serve(move |asked, before| match before {
        _ if before < cuts => Reply::file(&content, "v1", asked).cut(40_000),
        _ if before < cuts + down => Reply::status(503),
        _ => Reply::file(&content, "v1", asked),
    })
}

#[test]
fn a_download_that_breaks_off_goes_on_from_there() {
    let content = content(100_000);
    let server = broken(&content, 2, 0);
    let folder = tempfile::tempdir().unwrap();
    let downloads = Downloads::new(folder.path().into());
    let address = Address::parse(&format!("{}/w.h5", server.endpoint)).unwrap();
    let path = downloads.fetch(&address, &mut |_| ()).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    let ranges: Vec<_> = server.asked().into_iter().map(|it| it.range).collect();
    assert_eq!(ranges, [None, Some((40_000, None)), Some((80_000, None))]);
    let tags: Vec<_> = server.asked().into_iter().map(|it| it.if_range).collect();
    assert_eq!(tags[1].as_deref(), Some("\"v1\""));
}

#[test]
fn the_next_run_goes_on_where_this_one_gave_up() {
    let content = content(100_000);
    let server = broken(&content, 1, 2);
    let folder = tempfile::tempdir().unwrap();
    let downloads = Downloads::new(folder.path().into()).attempts(2);
    let address = Address::parse(&format!("{}/w.h5", server.endpoint)).unwrap();
    let error = downloads.fetch(&address, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("status 503"), "{error}");
    assert!(error.help("`x`").unwrap().contains("by other means"));
    assert_eq!(downloads.cached(&address), None);
    let mut first = None;
    let path = downloads
        .fetch(&address, &mut |download| {
            first.get_or_insert(download.done);
        })
        .unwrap();
    assert!(first.unwrap() > 40_000);
    assert_eq!(std::fs::read(path).unwrap(), content);
    let litter = names(folder.path());
    assert!(
        !litter.iter().any(|name| name.contains(".part")),
        "{litter:?}"
    );
}

#[test]
fn a_whole_part_needs_no_network() {
    let content = content(1000);
    let server = server(&content, "v1");
    let folder = tempfile::tempdir().unwrap();
    let downloads = Downloads::new(folder.path().into());
    let address = Address::new(&format!("{}/w.h5", server.endpoint), None);
    let path = downloads.fetch(&address, &mut |_| ()).unwrap();
    // As a process leaves it that is killed just before the last step.
    let name = path.display();
    std::fs::rename(&path, format!("{name}.part")).unwrap();
    let begun = serde_json::json!({ "url": address.url, "validator": "\"v1\"", "total": 1000 });
    std::fs::write(format!("{name}.part.json"), begun.to_string()).unwrap();
    assert_eq!(downloads.cached(&address), None);
    let path = downloads.fetch(&address, &mut |_| ()).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_file_that_has_changed_is_begun_anew() {
    let (old, new) = (content(100_000), content(90_000));
    let (first, second) = (old, new.clone());
    let server = Loopback::serve(move |asked, before| match before {
        0 => Reply::file(&first, "old", asked).cut(95_000),
        _ => Reply::file(&second, "new", asked),
    });
    let folder = tempfile::tempdir().unwrap();
    let downloads = Downloads::new(folder.path().into());
    let address = Address::parse(&format!("{}/w.h5", server.endpoint)).unwrap();
    let path = downloads.fetch(&address, &mut |_| ()).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), new);
}

#[test]
fn parts_of_two_files_are_never_joined() {
    // This server has no tags, does not look at `If-Range`, and changes its file half-way.
    let (old, new) = (content(100_000), vec![7; 100_000]);
    let server = || {
        let (old, new) = (old.clone(), new.clone());
        Loopback::serve(move |asked, before| {
            let content = if before == 0 { &old } else { &new };
            let mut reply = Reply::file(content, "", asked);
            reply.headers.retain(|header| !header.starts_with("ETag"));
            reply.cut(if before == 0 { 50_000 } else { usize::MAX })
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let downloads = Downloads::new(folder.path().into());
    for sum in [None, Some(sha256(&new))] {
        let server = server();
        let address = Address::new(&format!("{}/w.h5", server.endpoint), sum.as_deref());
        let path = downloads.fetch(&address, &mut |_| ()).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), new);
        // With a checksum it may try to go on, as that tells.
        let asked: Vec<bool> = server.asked().iter().map(|it| it.range.is_some()).collect();
        let tried: &[bool] = match sum {
            None => &[false, false],
            Some(_) => &[false, true, false],
        };
        assert_eq!(asked, tried);
    }
}

#[test]
fn answers_that_are_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let downloads = Downloads::new(folder.path().into()).attempts(1);
    let error = |answer: Reply| {
        let server = Loopback::serve(move |_, _| answer.clone());
        let address = Address::new(&format!("{}/x.zip", server.endpoint), None);
        let error = downloads.fetch(&address, &mut |_| ()).unwrap_err();
        assert_eq!(downloads.cached(&address), None);
        error.to_string()
    };
    let text = error(Reply::status(404));
    assert!(text.contains("there is no such file (404)"), "{text}");
    let text = error(Reply::status(403));
    assert!(text.contains("a login is needed"), "{text}");
    let mut page = Reply::whole(b"<html>");
    page.headers.push("Content-Type: text/html".into());
    let text = error(page);
    assert!(text.contains("a web page, not a file"), "{text}");
    let mut long = Reply::whole(&content(1000));
    long.claimed = Some(2000);
    let text = error(long);
    assert!(
        text.contains("broke off after 1000 of 2000 bytes"),
        "{text}"
    );
    let text = error(Reply::redirect("/x.zip"));
    assert!(text.contains("redirect"), "{text}");
}

#[test]
fn redirections_are_followed() {
    let content = content(1000);
    let served = content.clone();
    let server = Loopback::serve(move |asked, _| match asked.path.as_str() {
        "/there" => Reply::file(&served, "v1", asked),
        _ => Reply::redirect("/there"),
    });
    let folder = tempfile::tempdir().unwrap();
    let downloads = Downloads::new(folder.path().into());
    let address = Address::new(&format!("{}/here", server.endpoint), None);
    let path = downloads.fetch(&address, &mut |_| ()).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
}

#[test]
fn two_at_once_download_once() {
    let content = content(1 << 20);
    let server = server(&content, "v1");
    let folder = tempfile::tempdir().unwrap();
    let address = Address::new(&format!("{}/x.zip", server.endpoint), None);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let downloads = Downloads::new(folder.path().into());
                let path = downloads.fetch(&address, &mut |_| ()).unwrap();
                assert_eq!(std::fs::read(path).unwrap(), content);
            });
        }
    });
    assert_eq!(server.asked().len(), 1);
}

/// A tar of these entries: kind, name, link, content.
fn tar(entries: &[(tar::EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (kind, name, link, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        // Past the checks of the crate, which would not write these.
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A zip of these entries: name, mode, content. Modes are put in afterwards, as the crate would not
/// write these.
fn zip(entries: &[(&str, Option<u32>, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, _, content) in entries {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated);
        archive.start_file(*name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    let mut bytes = archive.finish().unwrap().into_inner();
    let mut at = 0;
    for (_, mode, _) in entries {
        let mut rest = bytes[at..].windows(4);
        at += rest.position(|it| it == b"PK\x01\x02").unwrap();
        if let Some(mode) = mode {
            bytes[at + 5] = 3;
            bytes[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
        }
        at += 4;
    }
    bytes
}

/// Unpacks an archive in a folder of its own; gives the files, or the message.
fn unpacked(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("archive");
    std::fs::write(&file, archive).unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    let into = folder.path().join("into");
    std::fs::create_dir(&into).unwrap();
    let outcome = unpack(&file, "x.tgz", &into).map_err(|error| error.to_string());
    // Whatever it was, nothing has come to lie beside the folder.
    assert_eq!(names(folder.path()), ["archive", "into", "secret"]);
    outcome?;
    let mut files = Vec::new();
    gather(&into, "", &mut files);
    files.sort();
    Ok(files)
}

fn gather(folder: &Path, at: &str, files: &mut Vec<(String, Vec<u8>)>) {
    for name in names(folder) {
        let path = folder.join(&name);
        assert!(!path.is_symlink(), "{name}");
        if path.is_dir() {
            gather(&path, &format!("{at}{name}/"), files);
        } else {
            files.push((format!("{at}{name}"), std::fs::read(path).unwrap()));
        }
    }
}

fn listed(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    let pairs = files.iter();
    pairs
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect()
}

use tar::EntryType as Kind;

#[test]
fn archives_of_every_kind_are_unpacked() {
    let entries: [(Kind, &str, &str, &[u8]); 6] = [
        (Kind::Directory, "set/", "", b""),
        (Kind::Regular, "set/cat/a.png", "", b"a"),
        (Kind::Regular, "./set/dog/b.png", "", b"b"),
        (Kind::Symlink, "set/dog/c.png", "../cat/a.png", b""),
        (Kind::Link, "set/dog/d.png", "set/dog/b.png", b""),
        (Kind::Symlink, "set/cats", "cat", b""),
    ];
    let expected: [(&str, &[u8]); 4] = [
        ("set/cat/a.png", b"a"),
        ("set/dog/b.png", b"b"),
        ("set/dog/c.png", b"a"),
        ("set/dog/d.png", b"b"),
    ];
    let plain = tar(&entries);
    assert_eq!(listed(&unpacked(&plain).unwrap()), expected);
    assert_eq!(listed(&unpacked(&gzip(&plain)).unwrap()), expected);
    let zipped = zip(&[
        ("set/cat/a.png", None, b"a"),
        ("set\\dog\\b.png", Some(0o100_644), b"b"),
        ("set/dog/c.png", Some(0o120_777), b"../cat/a.png"),
        ("set/dog/d.png", Some(0o100_600), b"b"),
    ]);
    assert_eq!(listed(&unpacked(&zipped).unwrap()), expected);
    // Of two entries of a name the later one stays.
    let twice = tar(&[
        (Kind::Regular, "a", "", b"old"),
        (Kind::Regular, "a", "", b"new"),
    ]);
    assert_eq!(
        listed(&unpacked(&twice).unwrap()),
        [("a", b"new".as_slice())]
    );
}

#[test]
fn long_names_are_read() {
    let long = format!("{}/{}.png", "folder".repeat(20), "picture".repeat(20));
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    archive.append_data(&mut header, &long, &b"x"[..]).unwrap();
    let files = unpacked(&archive.into_inner().unwrap()).unwrap();
    assert_eq!(listed(&files), [(long.as_str(), b"x".as_slice())]);
}

#[test]
fn hostile_archives_are_refused() {
    let file = |name: &str| tar(&[(Kind::Regular, name, "", b"x")]);
    let link = |kind, target: &str| tar(&[(kind, "a/b", target, b"")]);
    let deep = "d/".repeat(49) + "x";
    let deeper = "d/".repeat(70) + "x";
    for (archive, reason) in [
        (file("../secret"), "leads out of it"),
        (file("a/../../secret"), "leads out of it"),
        (file("a\\..\\..\\secret"), "leads out of it"),
        (file("/etc/passwd"), "absolute path"),
        (file("C:\\secret"), "absolute path"),
        (link(Kind::Symlink, "../../secret"), "leads out of it"),
        (link(Kind::Symlink, "/etc"), "leads out of it"),
        (link(Kind::Link, "../secret"), "leads out of it"),
        (link(Kind::Link, "/etc/passwd"), "leads out of it"),
        (link(Kind::Char, ""), "neither a file, a folder nor a link"),
        (link(Kind::Fifo, ""), "neither a file, a folder nor a link"),
        (zip(&[("../secret", None, b"x")]), "leads out of it"),
        (zip(&[("/secret", None, b"x")]), "absolute path"),
        (
            zip(&[("a", Some(0o120_777), b"../secret")]),
            "leads out of it",
        ),
        (zip(&[("a", Some(0o010_644), b"x")]), "neither a file"),
        (zip(&[(&deeper, None, b"x")]), "lies too deep"),
        (b"BZh9".to_vec(), "bzip2"),
        (b"<html>".to_vec(), "no archive in a known format"),
        (Vec::new(), "it is empty"),
    ] {
        let error = unpacked(&archive).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
        // Compressed or not.
        if archive.get(257..262) == Some(b"ustar") {
            let error = unpacked(&gzip(&archive)).unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
    assert!(unpacked(&file(&deep)).is_ok());
}

#[test]
fn a_link_is_never_gone_through() {
    let archive = tar(&[
        (Kind::Symlink, "a", "b", b""),
        (Kind::Regular, "a/x", "", b"x"),
    ]);
    assert_eq!(
        listed(&unpacked(&archive).unwrap()),
        [("a/x", b"x".as_slice())]
    );
}

#[test]
fn bombs_end_early() {
    // 320 MB of zeros in 320 KB.
    let zeros = vec![0; 1 << 20];
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut header = tar::Header::new_gnu();
    header.set_size(320 << 20);
    header.set_path("zeros").unwrap();
    header.set_cksum();
    writer.write_all(header.as_bytes()).unwrap();
    for _ in 0..320 {
        writer.write_all(&zeros).unwrap();
    }
    let bomb = writer.finish().unwrap();
    assert!(bomb.len() < 400_000);
    let error = unpacked(&bomb).unwrap_err();
    assert!(error.contains("out of proportion"), "{error}");

    // A zip says what it holds, and is not begun.
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("zeros", options).unwrap();
    for _ in 0..320 {
        archive.write_all(&zeros).unwrap();
    }
    let error = unpacked(&archive.finish().unwrap().into_inner()).unwrap_err();
    assert!(error.contains("out of proportion"), "{error}");

    // Many empty files.
    let mut archive = tar::Builder::new(Vec::new());
    for index in 0..14_000 {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        let name = format!("{index}");
        archive.append_data(&mut header, name, &b""[..]).unwrap();
    }
    let error = unpacked(&gzip(&archive.into_inner().unwrap())).unwrap_err();
    assert!(error.contains("entries, out of proportion"), "{error}");

    // A name of a gigabyte, were it read.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(Kind::GNULongName);
    header.set_size(1 << 30);
    header.set_cksum();
    let error = unpacked(&gzip(header.as_bytes())).unwrap_err();
    assert!(error.contains("too long"), "{error}");
}

#[test]
fn archives_that_are_cut_are_refused() {
    let whole = tar(&[
        (Kind::Regular, "cat/a.png", "", &content(3000)),
        (Kind::Regular, "dog/b.png", "", &content(3000)),
    ]);
    let zipped = zip(&[("cat/a.png", None, &content(3000))]);
    for whole in [gzip(&whole), zipped] {
        assert!(unpacked(&whole).is_ok());
        for length in (0..whole.len()).step_by(11) {
            assert!(unpacked(&whole[..length]).is_err(), "{length}");
        }
    }
    // A plain tar that ends between two entries is whole as far as anyone can tell.
    assert!(unpacked(&whole[..1000]).is_err());
}

#[test]
fn a_folder_is_there_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("data"));
    let key = Store::key("flowers.tgz", "https://x/flowers.tgz");
    assert!(key.starts_with("flowers.tgz-"), "{key}");
    assert_eq!(store.find(&key).unwrap(), None);
    let fails = |into: &Path| -> Result<Record, FetchError> {
        std::fs::write(into.join("half"), "x").unwrap();
        Err(FetchError::NoCache("x".into()))
    };
    assert!(store.make(&key, fails).is_err());
    assert_eq!(names(store.root()), [format!("{key}.lock")]);

    // Left by a process that was killed.
    let left = store.root().join(format!(".{key}.part/files"));
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("half"), "x").unwrap();
    let fill = |into: &Path| -> Result<Record, FetchError> {
        std::fs::create_dir(into.join("cat")).unwrap();
        std::fs::write(into.join("cat/a.png"), "a picture").unwrap();
        Ok(Record {
            origin: "x".into(),
            ..Record::default()
        })
    };
    let stored = store.make(&key, fill).unwrap();
    assert_eq!((stored.record.files, stored.record.bytes), (1, 9));
    assert_eq!(names(&stored.folder), ["cat"]);
    assert_eq!(store.find(&key).unwrap(), Some(stored.clone()));
    assert_eq!(store.make(&key, fails).unwrap(), stored);

    std::fs::remove_file(stored.folder.join("cat/a.png")).unwrap();
    let error = store.find(&key).unwrap_err();
    assert!(error.to_string().contains("0 files of 0 bytes"), "{error}");
    assert!(error.help("x").unwrap().contains("delete the folder"));
}
