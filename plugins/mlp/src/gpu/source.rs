//! Without a CUDA device: every kernel as CUDA C++, compiled for sm_90a by NVRTC.
//!
//! A kernel is made for some runtime whose client it keeps: for wgpu's. NVRTC and its headers are those of a CUDA toolkit, or
//! of the packages nvidia-cuda-{nvrtc,runtime,crt,cccl} of the Python package index; CUDA_PATH says where.

use super::kernels::product::Then;
use super::kernels::screen::{Measured, Teams};
use super::kernels::{adam, loss, product, rows, screen};
use cubecl::cuda::CudaCompiler;
use cubecl::prelude::*;
use cubecl::wgpu::WgpuRuntime as W;
use cubecl::{Compiler, CubeTask};
use cubecl_runtime::kernel::{CubeKernel, KernelTask};
use cudarc::nvrtc::result as nvrtc;
use half::f16;
use std::ffi::{CStr, CString};

/// CUDA C++ for a device such as the H100.
fn source<K: CubeKernel + 'static>(kernel: K) -> String {
    let mut options = <CudaCompiler as Compiler>::CompilationOptions::default();
    let knows = &mut options.supports_features;
    (knows.fast_math, knows.grid_constants, knows.clusters) = (true, true, true);
    (knows.elect_sync, knows.fast_tanh) = (true, true);
    let index = u32::as_type_native_unchecked().storage_type();
    let task = KernelTask::<CudaCompiler, K>::new(kernel);
    task.compile(&mut Default::default(), &options, ExecutionMode::Checked, index).expect("CUDA C++").source
}

/// The log of NVRTC, where it does not compile this.
#[allow(unsafe_code)]
fn compile(source: &str, include: &str) -> Result<(), String> {
    let text = CString::new(source).expect("no zeros");
    let program = nvrtc::create_program(text.as_c_str(), None).expect("a program");
    let options = [
        "--gpu-architecture=sm_90a".to_string(),
        format!("--include-path={include}"),
        format!("--include-path={include}/cccl"),
    ];
    // SAFETY: the program has just been made, and is not destroyed before the log is read.
    unsafe {
        nvrtc::compile_program(program, &options).map_err(|_| {
            let log = nvrtc::get_program_log(program).expect("a log");
            CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned()
        })
    }
}

/// Measures: each part of a kernel that depends on one is there in some, and is not in others.
fn measures() -> impl Iterator<Item = Measured> {
    [0, 3, 6, 9, 12, 15].into_iter().map(|i| {
        let is = |bit: u32| i >> bit & 1 == 1;
        Measured {
            squares: is(0),
            relative: !is(0),
            weighed: is(1),
            averaged: is(0) && is(1),
            null: is(2),
            observed: is(1),
            anchored: is(3),
        }
    })
}

/// All kernels, of each form that is launched.
fn sources() -> Vec<(String, String)> {
    let client = <W as cubecl::Runtime>::client(&Default::default());
    let lines = || KernelSettings::default().cube_dim(CubeDim::new_1d(256));
    let a = || ArrayCompilationArg { inplace: None };
    let c = || client.clone();
    let plane = Teams { units: 32, teams: 8, plane: true };
    let cube = Teams { units: 128, teams: 1, plane: false };
    let teams =
        |by: Teams| KernelSettings::default().cube_dim(CubeDim::new_2d(by.units as u32, by.teams as u32));
    let tiles = || KernelSettings::default().cube_dim(CubeDim::new_2d(16, 16));
    let mut all: Vec<(String, String)> = vec![
        (
            "densify".into(),
            source(rows::densify::Densify::<W>::new(lines(), c(), a(), a(), a(), a(), a(), a(), (), (), ())),
        ),
        ("keep".into(), source(loss::keep::Keep::<W>::new(lines(), c(), a(), a(), a(), ()))),
        ("lower".into(), source(loss::lower::Lower::<W>::new(lines(), c(), a(), ()))),
        ("tally".into(), source(loss::tally::Tally::<W>::new(lines(), c(), a(), a(), (), (), true, 128))),
        ("halve".into(), source(product::halve::Halve::<W>::new(lines(), c(), a(), a()))),
        ("mark".into(), source(screen::mark::Mark::<W>::new(lines(), c(), a(), a(), a(), a()))),
        (
            "first_without".into(),
            source(screen::first_without::FirstWithout::<W>::new(
                lines(),
                c(),
                a(),
                a(),
                a(),
                a(),
                a(),
                a(),
                (),
                (),
            )),
        ),
    ];
    for (closed, relu) in [(true, true), (true, false), (false, false)] {
        let kernel = rows::sum_rows::SumRows::<f32, W>::new(
            lines(),
            c(),
            a(),
            a(),
            a(),
            a(),
            a(),
            (),
            (),
            (),
            (),
            (),
            closed,
            relu,
        );
        all.push((format!("sum_rows {closed} {relu}"), source(kernel)));
    }
    for ones in [true, false] {
        let kernel = adam::update::Update::<W>::new(
            lines(),
            c(),
            a(),
            a(),
            a(),
            a(),
            a(),
            (),
            (),
            (),
            (),
            (),
            (),
            (),
            ones,
        );
        all.push((format!("update {ones}"), source(kernel)));
    }
    for then in [Then::Nothing, Then::Bias, Then::BiasRelu, Then::Mask] {
        for (transposed, n) in [(false, 2), (true, 2), (false, 4), (true, 4)] {
            let kernel = product::product::Product::<f32, W>::new(
                tiles(),
                c(),
                a(),
                a(),
                a(),
                a(),
                (),
                (),
                (),
                (),
                (),
                transposed,
                then,
                n,
                n,
            );
            all.push((format!("product {then:?} {transposed} {n}"), source(kernel)));
        }
    }
    for by in [plane, cube] {
        for gradient in [true, false] {
            let kernel = loss::losses::Losses::<W>::new(
                teams(by),
                c(),
                a(),
                a(),
                a(),
                a(),
                a(),
                (),
                (),
                gradient,
                by.units,
                by.teams,
                by.plane,
            );
            all.push((format!("losses {gradient} {by:?}"), source(kernel)));
        }
        for measured in measures() {
            for map in [true, false] {
                let kernel = screen::cells_of_sheet::CellsOfSheet::<W>::new(
                    teams(by),
                    c(),
                    a(),
                    a(),
                    a(),
                    a(),
                    a(),
                    a(),
                    (),
                    (),
                    (),
                    (),
                    map,
                    measured,
                    by,
                );
                all.push((format!("cells_of_sheet {map} {measured:?} {by:?}"), source(kernel)));
            }
            for held in if measured.anchored { [0, 1] } else { [8, 16] } {
                let kernel = screen::impacts_by_map::ImpactsByMap::<f32, W>::new(
                    teams(by),
                    c(),
                    a(),
                    a(),
                    a(),
                    a(),
                    a(),
                    a(),
                    a(),
                    (),
                    held,
                    measured,
                    by,
                );
                all.push((format!("impacts_by_map {held} {measured:?} {by:?}"), source(kernel)));
                let kernel = screen::impacts_by_map::ImpactsByMap::<f16, W>::new(
                    teams(by),
                    c(),
                    a(),
                    a(),
                    a(),
                    a(),
                    a(),
                    a(),
                    a(),
                    (),
                    held,
                    measured,
                    by,
                );
                all.push((format!("impacts_by_map f16 {held} {measured:?} {by:?}"), source(kernel)));
            }
        }
    }
    for measured in measures() {
        let kernel = screen::impacts_by_layers::ImpactsByLayers::<W>::new(
            teams(cube),
            c(),
            a(),
            a(),
            a(),
            a(),
            a(),
            a(),
            a(),
            a(),
            a(),
            (),
            (),
            4,
            128,
            measured,
        );
        all.push((format!("impacts_by_layers {measured:?}"), source(kernel)));
    }
    all
}

#[test]
fn nvrtc_compiles_every_kernel() {
    let required = std::env::var("LACUNA_REQUIRE").unwrap_or_default();
    let there = std::panic::catch_unwind(|| nvrtc::create_program(c"", None)).is_ok();
    let include = std::env::var("CUDA_PATH").unwrap_or("/usr/local/cuda".into()) + "/include";
    if !there || !std::path::Path::new(&include).exists() {
        assert!(!required.contains("nvrtc"), "NVRTC is required: set CUDA_PATH and LD_LIBRARY_PATH");
        println!("skipped: no NVRTC, or no headers in {include}");
        return;
    }
    if super::wgpu::devices().is_err() {
        assert!(!required.contains("nvrtc"), "kernels are made for wgpu, and there is no device");
        println!("skipped: no Vulkan device");
        return;
    }
    let (sources, mut bytes) = (sources(), 0);
    for (name, source) in &sources {
        bytes += source.len();
        if let Err(log) = compile(source, &include) {
            panic!("{name}: {log}\n{source}");
        }
    }
    println!("{} kernels, {bytes} bytes of CUDA C++", sources.len());
}
