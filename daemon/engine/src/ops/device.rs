//! The device that MLX computes on by default: a fact of the machine and of the MLX that the program was linked with.

use std::{ffi::CStr, sync::OnceLock};

use mlx_rs::{Device, DeviceType};

/// Whether a GPU computes: Metal on a Mac (unless it is a virtual machine without one), CUDA where MLX was built for it and finds one.
pub(crate) fn on_gpu() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let kind = Device::try_default().and_then(|device| device.get_type());
        matches!(kind, Ok(DeviceType::Gpu))
    })
}

/// Bytes of memory that the system recommends the GPU to use at most, which is also the most that it keeps resident. Metal alone has
/// such a thing.
pub(crate) fn gpu_recommended() -> Option<u64> {
    number(c"max_recommended_working_set_size")
}

/// Bytes of a GPU's own memory that are free. CUDA alone tells; elsewhere processors and GPU share one memory.
pub(crate) fn gpu_free() -> Option<u64> {
    number(c"free_memory")
}

/// A fact about the GPU, as MLX names it.
fn number(key: &CStr) -> Option<u64> {
    if !on_gpu() {
        return None;
    }
    let (mut number, mut is_there) = (0, false);
    // SAFETY: see `ops`. The handles are made here and freed here, the key is a C string, and what is written is only used where
    // the status says that it was.
    unsafe {
        let device = mlx_sys::mlx_device_new_type(mlx_sys::mlx_device_type__MLX_GPU, 0);
        let mut info = mlx_sys::mlx_device_info_new();
        if mlx_sys::mlx_device_info_get(&raw mut info, device) == 0
            && mlx_sys::mlx_device_info_has_key(&raw mut is_there, info, key.as_ptr()) == 0
            && is_there
        {
            is_there = mlx_sys::mlx_device_info_get_size(&raw mut number, info, key.as_ptr()) == 0;
        }
        mlx_sys::mlx_device_info_free(info);
        mlx_sys::mlx_device_free(device);
    }
    is_there.then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gpu_has_facts() {
        let facts = [gpu_recommended(), gpu_free()];
        assert!(on_gpu() || facts == [None, None], "{facts:?}");
        // Metal tells the one, CUDA the other.
        assert!(!on_gpu() || facts.iter().any(Option::is_some), "{facts:?}");
    }
}
