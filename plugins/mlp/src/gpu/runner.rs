//! A device with its buffers: uploads, read-backs, and how units are divided.

use super::kernels::loss::tally;
use super::kernels::team::Teams;
use cubecl::features::Plane;
use cubecl::future::block_on;
use cubecl::prelude::*;
use cubecl::server::Handle;
use cubecl::stream_id::StreamId;
use lacuna_sdk::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Units of a cube where each has a number of its own; every device takes as many.
pub const UNITS: u32 = 256;
/// Lists that the kernel with most of them has, and one for its other arguments.
const BINDINGS: u32 = 10;
/// Cubes along the first axis; every device takes as many along each.
const ACROSS: usize = 1 << 15;

/// A list of numbers on the device.
#[derive(Clone)]
pub struct Buffer {
    handle: Handle,
    len: usize,
}

/// A device.
#[derive(Clone)]
pub struct Runner<R: Runtime> {
    client: ComputeClient<R>,
    /// Its bytes, where the runtime tells.
    memory: Option<u64>,
    /// Stands where a kernel has an argument that it does not need.
    nothing: Buffer,
}

impl<R: Runtime> Runner<R> {
    /// A device that has been probed, with so many bytes, where the runtime tells.
    #[allow(unsafe_code)]
    pub fn new(mut client: ComputeClient<R>, memory: Option<u64>) -> Self {
        // SAFETY: one stream for all threads, as if one of them did all; else each has memory of its own, and keeps it.
        unsafe { client.set_stream(StreamId { value: 0 }) };
        let nothing = Buffer { handle: client.empty(size_of::<f32>()), len: 1 };
        Self { client, memory, nothing }
    }

    /// The device of an opener, if it computes: CubeCL opens a device by a panic or not, and tells of a failure late or never.
    pub fn tried(open: impl FnOnce() -> Self) -> Result<Self> {
        let failed = |why: &str| Error::failed(format!("the device does not work: {why}"));
        let opened = catch_unwind(AssertUnwindSafe(open)).map_err(|_| failed("it cannot be opened"))?;
        let bindings = opened.client.properties().hardware.max_bindings;
        if bindings < BINDINGS {
            return Err(failed(&format!("a kernel may have {bindings} lists, and {BINDINGS} are needed")));
        }
        let (numbers, sums) = (opened.upload(&[1.0f32, 2.0, 4.0]), opened.upload(&[-1.0f32]));
        let (cubes, units) = (Self::cubes(1), CubeDim::new_1d(Teams::CUBE.units as u32));
        let (a, b) = (opened.arg(&numbers), opened.arg(&sums));
        tally::launch::<R>(&opened.client, cubes, units, a, b, 3, 0, false, Teams::CUBE.units);
        match opened.read::<f32>(&sums)?[..] {
            [7.0] => Ok(opened),
            _ => Err(failed("it computes a sum that is wrong, or none")),
        }
    }

    /// An error where a list of so many numbers, or all lists together, are more than the device holds.
    pub fn check_room(&self, what: &str, lists: &[u64]) -> Result<()> {
        // Kernels count in 32 bits.
        let most = self.client.properties().memory.max_page_size.min(4 * u64::from(u32::MAX));
        let list = 4 * lists.iter().max().copied().unwrap_or(0);
        let all = 4 * lists.iter().sum::<u64>();
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        let too_large = match self.memory.map(|memory| memory / 10 * 9) {
            _ if list > most => format!("{} MB in one list, and the device allows {} MB", mb(list), mb(most)),
            Some(memory) if all > memory => {
                format!("{} MB, and the device has {} MB to give", mb(all), mb(memory))
            }
            _ => return Ok(()),
        };
        Err(Error::parameters(format!("{what} takes {too_large}: take fewer genes, or `device = \"cpu\"`")))
    }

    /// Gives back what no list uses any more.
    pub fn clean(&self) {
        self.client.memory_cleanup();
    }

    /// For launches.
    pub fn client(&self) -> &ComputeClient<R> {
        &self.client
    }

    /// Stands where a kernel has an argument that it does not need.
    pub fn nothing(&self) -> ArrayArg<R> {
        self.arg(&self.nothing)
    }

    /// A list as an argument.
    #[allow(unsafe_code)]
    pub fn arg(&self, buffer: &Buffer) -> ArrayArg<R> {
        // SAFETY: the handle was made for so many numbers; kernels are launched in the mode that checks bounds.
        unsafe { ArrayArg::from_raw_parts(buffer.handle.clone(), buffer.len) }
    }

    /// Room for so many numbers of a type, whatever they are.
    pub fn room<T>(&self, len: usize) -> Buffer {
        Buffer { handle: self.client.empty(len.max(1) * size_of::<T>()), len: len.max(1) }
    }

    /// These numbers; an empty list becomes one of a zero, as no device knows empty ones.
    pub fn upload<T: CubeElement + Default>(&self, numbers: &[T]) -> Buffer {
        match numbers {
            [] => self.upload(&[T::default()]),
            _ => Buffer { handle: self.client.create_from_slice(T::as_bytes(numbers)), len: numbers.len() },
        }
    }

    /// What is there after all that was launched.
    pub fn read<T: CubeElement>(&self, buffer: &Buffer) -> Result<Vec<T>> {
        // A read alone does not tell of launches that failed.
        let failed = |e| Error::failed(format!("the device failed: {e:?}"));
        block_on(self.client.sync()).map_err(failed)?;
        let bytes = self.client.read_one(buffer.handle.clone()).map_err(failed)?;
        Ok(T::from_bytes(&bytes)[..buffer.len].to_vec())
    }

    /// Cubes with a unit for each of so many numbers.
    pub fn units(numbers: usize) -> (CubeCount, CubeDim) {
        (Self::cubes(numbers.div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS))
    }

    /// So many cubes, and some more.
    pub fn cubes(cubes: usize) -> CubeCount {
        let cubes = cubes.max(1);
        CubeCount::Static(cubes.min(ACROSS) as u32, cubes.div_ceil(ACROSS) as u32, 1)
    }

    /// How units are divided into teams: planes of 32, where the device is known to have such.
    pub fn teams(&self) -> Teams {
        let hardware = &self.client.properties().hardware;
        let plane = self.client.features().plane.contains(Plane::Ops)
            && (hardware.plane_size_min, hardware.plane_size_max) == (32, 32);
        match plane {
            true => Teams::PLANES,
            false => Teams::CUBE,
        }
    }

    /// Cubes with a team for each of so many rows.
    pub fn rows(rows: usize, by: Teams) -> (CubeCount, CubeDim) {
        (Self::cubes(rows.div_ceil(by.teams)), CubeDim::new_2d(by.units as u32, by.teams as u32))
    }

    /// Whether it computes with f16.
    pub fn knows_f16(&self) -> bool {
        let half = half::f16::as_type_native_unchecked().storage_type();
        self.client.properties().supports_type(half)
    }
}

impl Buffer {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.len
    }
}
