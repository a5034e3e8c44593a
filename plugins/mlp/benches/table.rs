//! Our lines of the table that `table.py` prints: JSON, one measurement a line. On as many threads as
//! RAYON_NUM_THREADS says; `cargo bench -p lacuna-mlp --bench table -- [FILTER]`.

mod made;

use lacuna_sdk::prelude::*;
use lacuna_sdk::serde_json::{Value, json};
use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;

/// Runs of which the median is told.
const RUNS: usize = 5;

fn main() {
    // Cargo passes --bench.
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let all: [(&str, fn()); 7] = [
        ("screen", screen),
        ("training", training),
        ("growth", growth),
        ("hidden", hidden),
        ("gemm", gemm_alone),
        ("copy", copy),
        ("device", device),
    ];
    // What a device does is told only where it is asked for.
    let asked = |name: &str| if name == "device" { filter == name } else { name.contains(&filter) };
    all.iter().filter(|(name, _)| asked(name)).for_each(|(_, run)| run());
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// Peak memory of this process, in MB; from now on, as far as the system lets it be reset.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// The median seconds of five runs after a first one, by the clock and by the processors.
fn median(mut run: impl FnMut()) -> (f64, f64) {
    run();
    median_of(RUNS, run)
}

/// Of so many runs.
fn median_of(runs: usize, mut run: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<(f64, f64)> = (0..runs)
        .map(|_| {
            let (clock, processor) = (Instant::now(), processor_seconds());
            run();
            (clock.elapsed().as_secs_f64(), processor_seconds() - processor)
        })
        .collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    times[runs / 2]
}

fn tell(mut line: Value, seconds: (f64, f64)) {
    line["threads"] = json!(rayon::current_num_threads());
    line["seconds"] = json!(seconds.0);
    line["processor_seconds"] = json!(seconds.1);
    line["peak_mb"] = json!(peak_mb().round());
    println!("{line}");
}

/// A line with more to tell.
fn with_more(mut line: Value, more: Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        line[key] = value.clone();
    }
    line
}

fn screen_of((what, more): (&str, Value), with: &Value, genes: usize, n: usize, presence: f64) {
    peak_mb();
    let fitted = made::untrained(with, genes);
    let owned = made::cells(n, genes, presence, 2);
    let view = owned.to_view();
    let cells = Cells::from_view(&view);
    let mut pairs = 0;
    let seconds = median(|| pairs = made::screen(&fitted, &cells));
    let line = json!({"what": what, "genes": genes, "expressed": pairs / n, "cells": n, "pairs": pairs,
        "pairs_per_s": pairs as f64 / seconds.0});
    tell(with_more(line, more), seconds);
}

fn screen() {
    screen_of(("screen f32", json!({})), &json!({}), 2016, 2000, 0.3);
    screen_of(("screen f16", json!({})), &json!({"f16": true}), 2016, 2000, 0.3);
}

fn growth() {
    for genes in [500, 1000, 2016, 4032, 8000] {
        screen_of(
            ("growth genes", json!({})),
            &json!({}),
            genes,
            240,
            600.0f64.min(0.6 * genes as f64) / genes as f64,
        );
    }
    for expressed in [100, 200, 400, 800, 1600] {
        screen_of(("growth expressed", json!({})), &json!({}), 2016, 240, f64::from(expressed) / 2016.0);
    }
    for n in [250, 500, 1000, 2000, 4000] {
        screen_of(("growth cells", json!({})), &json!({}), 2016, n, 0.3);
    }
}

/// A training of so many steps, and of half as many: the difference is steps after warm-up.
fn training_of(
    (what, more): (&str, Value),
    with: &Value,
    (genes, n, held): (usize, usize, usize),
    presence: f64,
    steps: u64,
) {
    peak_mb();
    let cells = n + held;
    let (train, held) = (made::cells(n, genes, presence, 1), made::cells(held, genes, presence, 2));
    let run = |steps: u64| {
        let mut with = with.clone();
        with["steps"] = json!(steps);
        made::fit(with, &train, Some(&held));
    };
    // Where a network takes long to be drawn, steps take long too: one run tells enough.
    let runs = if genes > 10_000 && with["rank"].is_null() { 1 } else { RUNS };
    if runs > 1 {
        run(1);
    }
    let short = median_of(runs, || run(steps / 4));
    let long = median_of(runs, || run(steps + steps / 4));
    let seconds = (long.0 - short.0, long.1 - short.1);
    let line = json!({"what": what, "genes": genes, "cells": cells, "steps": steps,
        "ms_per_step": 1e3 * seconds.0 / steps as f64});
    tell(with_more(line, more), seconds);
}

fn training() {
    training_of(("training", json!({})), &json!({}), (100, 400, 100), 0.8, 5000);
    training_of(("training", json!({})), &json!({}), (2000, 1600, 400), 0.3, 200);
}

fn hidden() {
    screen_of(("screen hidden 512-512", json!({})), &json!({"hidden": [512, 512]}), 2000, 216, 0.3);
    training_of(
        ("training hidden 512-512", json!({})),
        &json!({"hidden": [512, 512]}),
        (2000, 1600, 400),
        0.3,
        100,
    );
    training_of(("training rank 64", json!({})), &json!({"rank": 64}), (20_000, 1600, 400), 0.1, 20);
}

/// What `device.py` prints: on the device that LACUNA_DEVICE names; small, if LACUNA_SMALL says so.
fn device() {
    let device = std::env::var("LACUNA_DEVICE").unwrap_or("cuda".into());
    let small = std::env::var("LACUNA_SMALL").is_ok_and(|small| !small.is_empty());
    let (genes, cells) = if small { (200, 100) } else { (2000, 2000) };
    for (what, bytes, with) in [
        ("screen f32", 4, json!({})),
        ("screen f16", 2, json!({"f16": true})),
        ("screen hidden 512-512", 4, json!({"hidden": [512, 512]})),
    ] {
        let mut with = with;
        with["device"] = json!(device);
        let more = json!({"bytes": bytes, "presence": 0.3, "hidden": with["hidden"]});
        screen_of((what, more), &with, genes, cells, 0.3);
    }
    let with = json!({"device": device});
    for (genes, presence, steps) in
        if small { [(100, 0.3, 40), (200, 0.1, 40)] } else { [(2000, 0.3, 2000), (20_000, 0.1, 1000)] }
    {
        let more = json!({"presence": presence, "expressed": (presence * genes as f64).round()});
        training_of(("training", more), &with, (genes, 1600, 400), presence, steps);
    }
}

/// The product of matrices alone, on the shapes of a screen through hidden layers: each thread multiplies its own.
fn gemm_alone() {
    use rayon::prelude::*;
    for (m, k, n) in [(512, 512, 512), (512, 512, 600)] {
        let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; k * n]);
        let products = 64 * rayon::current_num_threads();
        let seconds = median(|| {
            (0..products).into_par_iter().for_each_init(
                || vec![0.0f32; m * n],
                |out, _| {
                    let view =
                        |v, r, c| lacuna_sdk::ndarray::ArrayView2::from_shape((r, c), v).expect("a matrix");
                    let mut out =
                        lacuna_sdk::ndarray::ArrayViewMut2::from_shape((m, n), out).expect("a matrix");
                    lacuna_mlp::multiply(&view(&a, m, k), &view(&b, k, n), &mut out);
                },
            );
        });
        let flops = 2.0 * (m * k * n * products) as f64;
        let line = json!({"what": "gemm alone", "shape": [m, k, n], "gflops": flops / seconds.0 / 1e9});
        tell(line, seconds);
    }
}

/// How fast memory is copied, all threads together: bytes read and bytes written.
fn copy() {
    use rayon::prelude::*;
    let from = vec![1u8; 256 << 20];
    let mut to = vec![0u8; 256 << 20];
    let size = from.len() / rayon::current_num_threads();
    let seconds =
        median(|| to.par_chunks_mut(size).zip(from.par_chunks(size)).for_each(|(a, b)| a.copy_from_slice(b)));
    tell(json!({"what": "copy", "gb_per_s": 2.0 * from.len() as f64 / seconds.0 / 1e9}), seconds);
}
