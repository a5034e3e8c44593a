//! Without a CUDA device: every kernel as CUDA C++, compiled for sm_90a by NVRTC.
//!
//! A kernel is made for some runtime whose client it keeps: for wgpu's. NVRTC and its headers are those of a CUDA toolkit, or
//! of the packages nvidia-cuda-{nvrtc,runtime,crt,cccl} of the Python package index; CUDA_PATH says where.

use super::kernels::product::Then;
use super::kernels::screen::Form;
use super::kernels::sheet::Measured;
use super::kernels::team::Teams;
use super::kernels::{adam, loss, product, rows, screen, sheet};
use super::runner::UNITS;
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

/// A kernel's name and CUDA C++. Of its type, the units of a cube, a letter for each list (`a`) and number (`n`) that it
/// takes, and what is known when it is compiled.
macro_rules! cuda {
    (a) => { ArrayCompilationArg { inplace: None } };
    (n) => { () };
    ($kernel:ty, $units:expr, $($argument:ident)*; $($known:expr),*) => {{
        let settings = KernelSettings::default().cube_dim($units);
        let client = <W as cubecl::Runtime>::client(&Default::default());
        let kernel = <$kernel>::new(settings, client, $(cuda!($argument),)* $($known),*);
        (format!("{} {:?}", stringify!($kernel), ($($known,)*)), source(kernel))
    }};
}

/// All kernels, in forms that have each of their parts. What is `held` is a number of equal lines: the least and the most.
fn sources() -> Vec<(String, String)> {
    let line = CubeDim::new_1d(UNITS);
    let square = CubeDim::new_2d(16, 16);
    let mut all = vec![
        cuda!(rows::densify::Densify<W>, line, a a a a a a n n n;),
        cuda!(loss::keep::Keep<W>, line, a a a n;),
        cuda!(loss::lower::Lower<W>, CubeDim::new_1d(1), a n;),
        cuda!(loss::tally::Tally<W>, CubeDim::new_1d(128), a a n n; true, 128),
        cuda!(product::halve::Halve<W>, line, a a;),
        cuda!(sheet::mark::Mark<W>, line, a a a a;),
        cuda!(screen::first_without::FirstWithout<W>, line, a a a a a a n n;),
    ];
    for (closed, relu) in [(true, true), (true, false), (false, false)] {
        all.push(cuda!(rows::sum_rows::SumRows<f32, W>, line, a a a a a n n n n n; closed, relu));
    }
    for ones in [true, false] {
        all.push(cuda!(adam::update::Update<W>, line, a a a a a n n n n n n n; ones));
    }
    for then in [Then::Nothing, Then::Bias, Then::BiasRelu, Then::Mask] {
        for (transposed, n) in [(false, 2), (true, 2), (false, 4), (true, 4)] {
            all.push(
                cuda!(product::product::Product<f32, W>, square, a a a a n n n n n; transposed, then, n, n),
            );
        }
    }
    for by in [Teams::PLANES, Teams::CUBE] {
        let team = CubeDim::new_2d(by.units as u32, by.teams as u32);
        for gradient in [true, false] {
            let (units, teams, plane) = (by.units, by.teams, by.plane);
            all.push(cuda!(loss::losses::Losses<W>, team, a a a a a n n; gradient, units, teams, plane));
        }
        for measured in measures() {
            for map in [true, false] {
                all.push(cuda!(sheet::cells_of_sheet::CellsOfSheet<W>, team, a a a a a a n n n n; map, measured, by));
            }
            let held = if measured.anchored { 1 } else { 16 };
            for whole in [true, false] {
                let form = Form { layers: false, held, whole, together: 4, by };
                all.push(
                    cuda!(screen::impacts::Impacts<f32, W>, team, a a a a a a a a a n n; form, measured),
                );
                all.push(
                    cuda!(screen::impacts::Impacts<f16, W>, team, a a a a a a a a a n n; form, measured),
                );
                if by == Teams::CUBE {
                    let form = Form { layers: true, held: 8, whole, together: 8, by };
                    all.push(
                        cuda!(screen::impacts::Impacts<f32, W>, team, a a a a a a a a a n n; form, measured),
                    );
                }
            }
        }
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
    let sources = sources();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for sources in sources.chunks(sources.len().div_ceil(threads)) {
            let include = &include;
            scope.spawn(move || {
                for (name, source) in sources {
                    compile(source, include).unwrap_or_else(|log| panic!("{name}: {log}\n{source}"));
                }
            });
        }
    });
    let bytes: usize = sources.iter().map(|(_, source)| source.len()).sum();
    println!("{} kernels, {bytes} bytes of CUDA C++", sources.len());
}
