//! What bytes that follow do to a checksum.
//!
//! A checksum is a polynomial over GF(2), modulo that of CRC64NVME; the highest bit is the
//! coefficient of x^0. Bytes that follow multiply what was before them by x^8 each. That is some
//! thousand steps for any length, where the library's function takes a hundred times as many.

/// The share that bytes with this checksum have in that of themselves and `len` bytes after them.
pub(super) fn moved_by(checksum: u64, len: u64) -> u64 {
    product(power_of_x8(len), checksum)
}

/// The polynomial of CRC64NVME without its highest power.
const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

/// x^0.
const ONE: u64 = 1 << 63;

/// x^8.
const X8: u64 = ONE >> 8;

fn product(one: u64, mut other: u64) -> u64 {
    let mut sum = 0;
    for power in 0..u64::BITS {
        if one & (ONE >> power) != 0 {
            sum ^= other;
        }
        // Times x.
        other = (other >> 1) ^ (POLYNOMIAL & (other & 1).wrapping_neg());
    }
    sum
}

/// x^8 to the power of `exponent`.
fn power_of_x8(mut exponent: u64) -> u64 {
    let (mut power, mut square) = (ONE, X8);
    while exponent != 0 {
        if exponent & 1 != 0 {
            power = product(power, square);
        }
        square = product(square, square);
        exponent >>= 1;
    }
    power
}
