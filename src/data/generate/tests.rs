use super::*;

const FAMILIES: [GenerateKind; 2] = [GenerateKind::Patterns, GenerateKind::Shapes];

#[test]
fn families_share_no_class() {
    for name in classes(GenerateKind::Patterns) {
        assert!(!classes(GenerateKind::Shapes).contains(name));
    }
}

#[test]
fn every_picture_is_another_and_can_be_drawn_again() {
    for kind in FAMILIES {
        for class in 0..classes(kind).len() {
            let picture = draw(kind, class, 0, 1, 24);
            assert_eq!(picture.dimensions(), (24, 24));
            assert_eq!(picture, draw(kind, class, 0, 1, 24));
            assert_ne!(picture, draw(kind, class, 1, 1, 24));
            assert_ne!(picture, draw(kind, class, 0, 2, 24));
        }
    }
}

/// The embedded backbone was trained on these pictures: a change of their bytes, on another
/// machine or by an edit, must not go unnoticed.
#[test]
fn pictures_are_the_same_everywhere() {
    let fingerprint = |kind| {
        let mut hasher = blake3::Hasher::new();
        for class in 0..classes(kind).len() {
            for index in 0..4 {
                hasher.update(&draw(kind, class, index, 42, 32));
            }
        }
        hasher.finalize().to_hex()[..16].to_owned()
    };
    let both = FAMILIES.map(fingerprint).join(" ");
    insta::assert_snapshot!(both, @"0c8fb7e7b03e2b82 8faf9253a1138221");
}

#[test]
fn sizes_down_to_a_pixel_can_be_drawn() {
    for size in [1, 2, 7, 33] {
        let picture = draw(GenerateKind::Shapes, 0, 0, 0, size);
        assert_eq!(picture.dimensions(), (size, size));
    }
}

/// Pixels of `range` of every class, centred, with labels; classes take turns.
fn samples(range: std::ops::Range<u64>) -> Vec<(usize, Vec<f32>)> {
    let classes = classes(GenerateKind::Patterns).len();
    range
        .flat_map(|index| (0..classes).map(move |class| (class, index)))
        .map(|(class, index)| {
            let picture = draw(GenerateKind::Patterns, class, index, 5, 20);
            let pixels = picture.iter().map(|&v| f32::from(v) / 127.5 - 1.0);
            (class, pixels.collect())
        })
        .collect()
}

fn scores(weights: &[Vec<f32>], pixels: &[f32]) -> Vec<f32> {
    let dot = |row: &Vec<f32>| row.iter().zip(pixels).map(|(w, x)| w * x).sum();
    weights.iter().map(dot).collect()
}

fn accuracy(samples: &[(usize, Vec<f32>)], weights: &[Vec<f32>], offsets: &[f32]) -> f32 {
    let hits = samples.iter().filter(|(class, pixels)| {
        let scores = scores(weights, pixels);
        let score = |&i: &usize| scores[i] + offsets[i];
        (0..weights.len()).max_by(|a, b| score(a).total_cmp(&score(b))) == Some(*class)
    });
    hits.count() as f32 / samples.len() as f32
}

#[test]
fn linear_classifiers_on_pixels_stay_near_chance() {
    let (train, test) = (samples(0..80), samples(80..160));
    let classes = classes(GenerateKind::Patterns).len();
    let zeros = vec![vec![0.0f32; train[0].1.len()]; classes];

    let mut means = zeros.clone();
    for (class, pixels) in &train {
        for (mean, x) in means[*class].iter_mut().zip(pixels) {
            *mean += x / 80.0;
        }
    }
    let squares: Vec<f32> = means
        .iter()
        .map(|mean| -0.5 * mean.iter().map(|m| m * m).sum::<f32>())
        .collect();
    let nearest = accuracy(&test, &means, &squares);
    assert!(nearest < 0.3, "nearest mean reaches {nearest}");

    let mut weights = zeros;
    for _ in 0..15 {
        for (class, pixels) in &train {
            let scores = scores(&weights, pixels);
            let largest = scores.iter().copied().fold(f32::MIN, f32::max);
            let powers: Vec<f32> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total: f32 = powers.iter().sum();
            for (i, row) in weights.iter_mut().enumerate() {
                let error = powers[i] / total - f32::from(u8::from(i == *class));
                for (w, x) in row.iter_mut().zip(pixels) {
                    *w -= 0.001 * error * x;
                }
            }
        }
    }
    let fitted = accuracy(&train, &weights, &[0.0; 5]);
    assert!(fitted > 0.5, "the regression did not learn: {fitted}");
    let logistic = accuracy(&test, &weights, &[0.0; 5]);
    assert!(logistic < 0.3, "logistic regression reaches {logistic}");
}
