use super::*;

const FAMILIES: [GenerateKind; 2] = [GenerateKind::Patterns, GenerateKind::Shapes];

#[test]
fn families_share_no_class() {
    for name in classes(GenerateKind::Patterns) {
        assert!(!classes(GenerateKind::Shapes).contains(name));
    }
}

#[test]
fn sheet() {
    for kind in FAMILIES {
        let n = classes(kind).len();
        let mut out = RgbImage::new(14 * 66, n as u32 * 66);
        for class in 0..n {
            for index in 0..14 {
                let p = draw(kind, class, index, 1, 64);
                image::imageops::replace(&mut out, &p, index as i64 * 66, class as i64 * 66);
            }
        }
        out.save(format!("/tmp/sheet_{kind:?}.png")).unwrap();
        let t = std::time::Instant::now();
        for class in 0..n {
            let t = std::time::Instant::now();
            for index in 0..200 {
                std::hint::black_box(draw(kind, class, index, 2, 64));
            }
            println!("{} {:?}", classes(kind)[class], t.elapsed() / 200);
        }
        println!("{:?}", t.elapsed());
        let per = if n == 5 { 400 } else { 600 };
        let mut raw = Vec::new();
        for class in 0..n {
            for index in 0..per {
                raw.extend(draw(kind, class, index, 7, 64).into_raw());
            }
        }
        std::fs::write(format!("/tmp/raw_{kind:?}.bin"), raw).unwrap();
    }
}
