//! The twelve classes that the embedded backbone was pretrained on: outlines, surfaces and
//! strokes, none of them a class of the quickstart.

use super::paint::{
    Noise, Place, Structure, angle, bands, cell, chance, inside, pick, sine, split, triangle,
    uniform,
};
use crate::rng::Stream;
use rand::RngCore;

/// Names, in label order.
pub(super) const CLASSES: [&str; 12] = [
    "bricks", "cells", "clouds", "crescent", "cross", "glyphs", "maze", "plaid", "spiral",
    "square", "star", "triangle",
];

/// What draws each class.
pub(super) const STRUCTURES: [fn(&mut Stream) -> Structure; 12] = [
    bricks, cells, clouds, crescent, cross, glyphs, maze, plaid, spiral, square, star, triangles,
];

/// Several figures of one kind, filled or as outlines, anywhere in the picture. `figure` is a
/// signed distance at unit size with one parameter from 0 to 1.
fn scatter(rng: &mut Stream, figure: fn(f32, f32, f32) -> f32) -> Structure {
    let count = 1 + pick(rng, 4);
    let largest = if count == 1 { 0.85 } else { 0.55 };
    let outline = chance(rng, 0.4).then(|| uniform(rng, 0.12, 0.25));
    let figures: Vec<_> = (0..count)
        .map(|_| {
            (
                Place::random(rng, 0.75),
                uniform(rng, 0.28, largest),
                uniform(rng, 0.0, 1.0),
            )
        })
        .collect();
    Box::new(move |x, y, pixel| {
        figures.iter().fold(0.0, |cover: f32, (place, size, form)| {
            let (x, y) = place.local(x, y);
            if x * x + y * y > 2.1 * size * size {
                return cover;
            }
            let mut distance = figure(x / size, y / size, *form);
            if let Some(width) = outline {
                distance = (distance + width / 2.0).abs() - width / 2.0;
            }
            cover.max(inside(distance * size, pixel))
        })
    })
}

fn crescent(rng: &mut Stream) -> Structure {
    scatter(rng, |x, y, form| {
        let shift = 0.35 + 0.3 * form;
        let disc = (x * x + y * y).sqrt() - 0.9;
        let bite = ((x - shift) * (x - shift) + y * y).sqrt() - 0.75;
        disc.max(-bite)
    })
}

fn cross(rng: &mut Stream) -> Structure {
    scatter(rng, |x, y, form| {
        let (long, short) = (x.abs().max(y.abs()), x.abs().min(y.abs()));
        (long - 1.0).max(short - 0.18 - 0.15 * form)
    })
}

fn square(rng: &mut Stream) -> Structure {
    scatter(rng, |x, y, form| {
        (x.abs() - 0.8).max(y.abs() - 0.8 + 0.25 * form)
    })
}

fn triangles(rng: &mut Stream) -> Structure {
    scatter(rng, |x, y, form| {
        // The slanted sides lean by 0.45 to 0.65 of the height.
        let lean = 0.45 + 0.2 * form;
        let norm = (1.0 + lean * lean).sqrt();
        let side = (x.abs() + lean * y - 0.8 * lean) / norm;
        side.max(-y - 0.8)
    })
}

fn star(rng: &mut Stream) -> Structure {
    scatter(rng, |x, y, form| {
        let points = if form < 0.5 { 5.0 } else { 6.0 };
        let radius = (x * x + y * y).sqrt();
        // 0 at a point of the star, 0.5 between two.
        let across = triangle(angle(x, y) * points) / points;
        let (u, v) = (radius * sine(across + 0.25), radius * sine(across));
        let half = 0.5 / points;
        let inner = 0.38 + 0.12 * form;
        let (inner_u, inner_v) = (inner * sine(half + 0.25), inner * sine(half));
        let (edge_u, edge_v) = (inner_u - 1.0, inner_v);
        let norm = (edge_u * edge_u + edge_v * edge_v).sqrt();
        ((u - 1.0) * edge_v - v * edge_u) / norm
    })
}

fn spiral(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 0.5);
    let pitch = uniform(rng, 0.28, 0.7);
    let duty = uniform(rng, 0.3, 0.65);
    let arms = (1 + pick(rng, 3)) as f32;
    let hand = if chance(rng, 0.5) { arms } else { -arms };
    Box::new(move |x, y, pixel| {
        let (x, y) = place.local(x, y);
        let radius = (x * x + y * y).sqrt();
        bands(radius + hand * angle(x, y) * pitch, pitch, duty, pixel)
    })
}

fn plaid(rng: &mut Stream) -> Structure {
    let turn: f32 = uniform(rng, 0.0, 1.0);
    let first = Place::turned(turn, rng, 1.0);
    let second = Place::turned(turn + uniform(rng, 0.15, 0.35), rng, 1.0);
    let periods = [uniform(rng, 0.25, 0.7), uniform(rng, 0.25, 0.7)];
    let duties = [uniform(rng, 0.2, 0.5), uniform(rng, 0.2, 0.5)];
    let share = uniform(rng, 0.35, 0.65);
    Box::new(move |x, y, pixel| {
        let a = bands(first.local(x, y).0, periods[0], duties[0], pixel);
        let b = bands(second.local(x, y).0, periods[1], duties[1], pixel);
        share * a + (1.0 - share) * b
    })
}

fn bricks(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 1.0);
    let height = uniform(rng, 0.2, 0.45);
    let width = height * uniform(rng, 1.6, 2.8);
    let joint = height * uniform(rng, 0.08, 0.16);
    let shift = uniform(rng, 0.3, 0.5);
    Box::new(move |x, y, pixel| {
        let (x, y) = place.local(x, y);
        let row = split(y / height).0 as f32;
        let across = triangle(y / height) * height;
        let along = triangle(x / width + row * shift) * width;
        inside(across.min(along) - joint, pixel)
    })
}

fn cells(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 1.0);
    let scale = uniform(rng, 0.3, 0.65);
    let jitter = uniform(rng, 0.6, 1.0);
    let wall = uniform(rng, 0.05, 0.13);
    let seed = rng.next_u32();
    Box::new(move |x, y, pixel| {
        let (x, y) = place.local(x, y);
        let (x, y) = (x / scale, y / scale);
        let ((column, _), (row, _)) = (split(x), split(y));
        let (mut nearest, mut second) = (9.0f32, 9.0f32);
        for dy in -1..=1 {
            for dx in -1..=1 {
                let (c, r) = (column + dx, row + dy);
                let px = c as f32 + 0.5 + jitter * (cell(seed, c, r) - 0.5) - x;
                let py = r as f32 + 0.5 + jitter * (cell(!seed, c, r) - 0.5) - y;
                let distance = px * px + py * py;
                second = second.min(distance.max(nearest));
                nearest = nearest.min(distance);
            }
        }
        let gap = second.sqrt() - nearest.sqrt();
        inside((gap / 2.0 - wall) * scale, pixel)
    })
}

fn clouds(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 1.0);
    let noise = Noise::random(rng);
    let scale = uniform(rng, 1.2, 3.0);
    let rough = uniform(rng, 0.3, 0.7);
    let hard = uniform(rng, 1.5, 6.0);
    Box::new(move |x, y, _| {
        let (x, y) = place.local(x, y);
        let (x, y) = (x * scale, y * scale);
        let total = noise.at(x, y)
            + rough * noise.at(2.1 * x + 5.0, 2.1 * y)
            + rough * rough * noise.at(4.3 * x, 4.3 * y + 7.0);
        let mean = 0.5 * (1.0 + rough + rough * rough);
        (0.5 + hard * (total - mean) * 0.6).clamp(0.0, 1.0)
    })
}

fn maze(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 1.0);
    let scale = uniform(rng, 0.28, 0.6);
    let width = uniform(rng, 0.12, 0.22);
    let arcs = chance(rng, 0.5);
    let seed = rng.next_u32();
    Box::new(move |x, y, pixel| {
        let (x, y) = place.local(x, y);
        let (x, y) = (x / scale, y / scale);
        let ((column, mut u), (row, v)) = (split(x), split(y));
        if cell(seed, column, row) < 0.5 {
            u = 1.0 - u;
        }
        let distance = if arcs {
            let near = (u * u + v * v).sqrt();
            let far = ((1.0 - u) * (1.0 - u) + (1.0 - v) * (1.0 - v)).sqrt();
            (near - 0.5).abs().min((far - 0.5).abs())
        } else {
            (u - v).abs() * 0.707
        };
        inside((distance - width) * scale, pixel)
    })
}

fn glyphs(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 1.0);
    let scale = uniform(rng, 0.42, 0.8);
    let width = uniform(rng, 0.06, 0.1);
    let seed = rng.next_u32();
    Box::new(move |x, y, pixel| {
        let (x, y) = place.local(x, y);
        let (x, y) = (x / scale, y / scale / 1.25);
        let ((column, u), (row, v)) = (split(x), split(y));
        let (u, v) = (u - 0.5, v - 0.5);
        let mut distance = 9.0f32;
        for stroke in 0..4 {
            let [a, b] = stroke_ends(cell(seed.wrapping_add(stroke), column, row));
            distance = distance.min(segment(u, v, a, b));
        }
        inside((distance - width) * scale, pixel)
    })
}

/// A stroke of a letter: between two of the nine nodes of a grid.
fn stroke_ends(random: f32) -> [(f32, f32); 2] {
    const PAIRS: [(u8, u8); 12] = [
        (0, 2),
        (3, 5),
        (6, 8),
        (0, 6),
        (1, 7),
        (2, 8),
        (0, 8),
        (2, 6),
        (0, 4),
        (4, 8),
        (2, 4),
        (4, 6),
    ];
    let (a, b) = PAIRS[((random * 12.0) as usize).min(11)];
    let node = |n: u8| (f32::from(n % 3) * 0.3 - 0.3, f32::from(n / 3) * 0.3 - 0.3);
    [node(a), node(b)]
}

/// Distance to a line segment.
fn segment(x: f32, y: f32, a: (f32, f32), b: (f32, f32)) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let (px, py) = (x - a.0, y - a.1);
    let t = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    let (ex, ey) = (px - t * dx, py - t * dy);
    (ex * ex + ey * ey).sqrt()
}
