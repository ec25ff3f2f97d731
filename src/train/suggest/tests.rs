use super::*;

/// A curve of these smoothed losses over seven decades.
fn curve(losses: &[f64]) -> (RangeTest, Sweep) {
    let sweep = Sweep {
        from: 1e-6,
        to: 10.0,
        steps: losses.len(),
    };
    let points = losses.iter().enumerate().map(|(step, &loss)| Point {
        lr: sweep.rate(step),
        loss,
        smoothed: loss,
    });
    let test = RangeTest {
        points: points.collect(),
        end: End::Through,
    };
    (test, sweep)
}

/// What such curves look like: flat at 2, down to 0.5 around 1e-2, up from 1e-1 on.
fn usual() -> Vec<f64> {
    let loss = |step: i32| {
        let at = -6.0 + 7.0 * f64::from(step) / 99.0;
        2.0 - 1.5 / (1.0 + (-3.0 * (at + 3.0)).exp()) + (2.5 * (at + 0.5)).exp()
    };
    (0..100).map(loss).collect()
}

/// fastai's rule in its own terms: lengths grow pair by pair, and the valley's start is kept with
/// its end.
#[allow(clippy::needless_range_loop, reason = "as it is published")]
fn fastai_valley(losses: &[f64]) -> isize {
    let mut lengths = vec![1isize; losses.len()];
    let (mut start, mut end) = (0isize, 0usize);
    for i in 1..losses.len() {
        for j in 0..i {
            if losses[i] < losses[j] && lengths[i] < lengths[j] + 1 {
                lengths[i] = lengths[j] + 1;
            }
            if lengths[end] < lengths[i] {
                end = i;
                start = end as isize - lengths[end];
            }
        }
    }
    let sections = (end as isize - start) as f64 / 3.0;
    start + sections as isize + (sections / 2.0) as isize
}

#[test]
fn the_valley_is_fastais() {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    let mut curves = vec![usual(), usual()[10..95].to_vec(), vec![1.0; 30]];
    curves.push((0..40).map(f64::from).collect());
    curves.push((0..40).map(|step| f64::from(-step)).collect());
    for noise in [0.02, 0.2, 2.0] {
        for _ in 0..30 {
            curves.push(usual().iter().map(|it| it + noise * random()).collect());
        }
    }
    for losses in curves {
        let (test, _) = curve(&losses);
        let expected = fastai_valley(&losses).max(0);
        assert_eq!(valley(&test.points) as isize, expected, "{losses:?}");
    }
}

#[test]
fn a_usual_curve_suggests_rates_on_its_way_down() {
    let (test, sweep) = curve(&usual());
    let found = suggest(&test, sweep).unwrap();
    let lr = |rule| found.by(rule).lr.log10();
    assert!((lr(Rule::Steepest) + 3.0).abs() < 0.1, "{found:?}");
    assert!(
        (-2.9..-2.5).contains(&lr(Rule::TenthOfMinimum)),
        "{found:?}"
    );
    assert!((-4.2..-3.2).contains(&lr(Rule::Valley)), "{found:?}");
    assert_eq!(found.recommended, Rule::Valley);
    assert!(!found.still_falling);
    let still = suggest(&curve(&usual()[..60]).0, sweep);
    assert!(still.unwrap().still_falling);
}

#[test]
fn the_steepest_point_and_the_minimum_are_those_of_the_curve() {
    let losses = [5.0, 4.9, 4.5, 3.0, 2.9, 2.8, 2.7, 3.5, 4.0, 5.0];
    let (test, _) = curve(&losses);
    assert_eq!(steepest(&test.points), 2);
    assert_eq!(minimum(&test.points), 6);
    assert_eq!(nearest(&test.points, test.points[4].lr * 1.01), 4);
    // Seven points fall, up to the seventh: from one before the first, 2 and 1 on.
    assert_eq!(valley(&test.points), 2);
}

#[test]
fn what_suggests_nothing_says_why() {
    let nothing = |losses: &[f64], end: End| {
        let (mut test, sweep) = curve(&[losses, &[0.0; 100][losses.len()..]].concat());
        test.points.truncate(losses.len());
        test.end = end;
        suggest(&test, sweep).unwrap_err()
    };
    assert!(matches!(nothing(&[], End::NonFinite), Nothing::TooShort(_)));
    let few = nothing(&usual()[..20], End::Diverged);
    assert!(matches!(few, Nothing::TooShort(_)), "{few:?}");
    assert!(matches!(
        nothing(&[2.0; 100], End::Through),
        Nothing::Flat(_)
    ));
    // Ups and downs of batches are no descent.
    let (mut chance, sweep) = curve(&[2.0; 100]);
    for (step, point) in chance.points.iter_mut().enumerate() {
        point.loss += if step % 2 == 0 { 0.4 } else { -0.4 };
        point.smoothed -= 0.001 * step as f64;
    }
    assert!(matches!(suggest(&chance, sweep), Err(Nothing::Flat(_))));
    let rising: Vec<f64> = (0..60).map(|step| 2.0 + 0.1 * f64::from(step)).collect();
    assert!(matches!(nothing(&rising, End::Diverged), Nothing::Rises(_)));
}
