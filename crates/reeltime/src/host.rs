//! The name of this machine.

/// The host name; `None` if there is none, or if it is not text.
#[allow(unsafe_code)]
pub fn name() -> Option<String> {
    let mut buffer = [0_u8; 256];
    // SAFETY: the pointer and the length are those of one buffer, which outlives the call; one
    // byte is kept back, so that it ends in a zero even where a longer name was cut.
    let answer = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len() - 1) };
    if answer != 0 {
        return None;
    }
    let name = std::ffi::CStr::from_bytes_until_nul(&buffer).ok()?.to_str().ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Tells this machine since its last boot, and the processes that this one can see, from all
/// others; empty where that is not known.
pub fn machine() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let processes = std::fs::read_link("/proc/self/ns/pid");
    match (boot, processes) {
        (Ok(boot), Ok(processes)) => format!("{} {}", boot.trim(), processes.display()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_is_the_one_that_the_kernel_has() {
        if let Ok(kernel) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
            assert_eq!(super::name().as_deref(), Some(kernel.trim_end()));
        }
    }
}
