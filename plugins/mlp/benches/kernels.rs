//! Criterion: the screen's and the training's kernels, on all threads. `cargo bench -p lacuna-mlp --bench kernels`.

mod made;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lacuna_sdk::prelude::*;
use lacuna_sdk::serde_json::json;
use lacuna_sdk::testing;
use std::hint::black_box;

fn screens(c: &mut Criterion) {
    let mut group = c.benchmark_group("screen");
    group.sample_size(10);
    for (name, with, genes) in [
        ("linear f32", json!({}), 2016),
        ("linear f16", json!({"f16": true}), 2016),
        ("rank 64", json!({"rank": 64}), 2016),
        ("hidden 512-512", json!({"hidden": [512, 512]}), 2000),
    ] {
        let fitted = made::untrained(&with, genes);
        let owned = made::cells(if name.starts_with("hidden") { 16 } else { 256 }, genes, 0.3, 2);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let pairs = made::singles(&cells, 0..cells.len()).len();
        group.throughput(Throughput::Elements(pairs as u64));
        group.bench_function(BenchmarkId::new(name, genes), |b| {
            b.iter(|| black_box(made::screen(&fitted, &cells)));
        });
    }
}

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("training step");
    group.sample_size(10);
    for (name, with, genes) in [
        ("linear", json!({"steps": 10}), 100),
        ("linear", json!({"steps": 10}), 2000),
        ("rank 64", json!({"steps": 10, "rank": 64}), 2000),
        ("hidden 512-512", json!({"steps": 10, "hidden": [512, 512]}), 2000),
    ] {
        let (train, held) = (made::cells(400, genes, 0.3, 1), made::cells(100, genes, 0.3, 2));
        group.throughput(Throughput::Elements(10));
        group.bench_function(BenchmarkId::new(name, genes), |b| {
            b.iter(|| black_box(made::fit(with.clone(), &train, Some(&held))));
        });
    }
}

fn predictions(c: &mut Criterion) {
    let genes = 2000;
    let fitted = made::untrained(&json!({}), genes);
    let owned = made::cells(4, genes, 0.3, 2);
    let view = owned.to_view();
    let cells = Cells::from_view(&view);
    let list = made::singles(&cells, 0..1);
    let mut group = c.benchmark_group("profiles");
    group.throughput(Throughput::Elements(list.len() as u64));
    group.bench_function(BenchmarkId::new("linear", genes), |b| {
        b.iter(|| black_box(testing::predict(&fitted, &owned, &list)));
    });
}

criterion_group!(kernels, screens, steps, predictions);
criterion_main!(kernels);
