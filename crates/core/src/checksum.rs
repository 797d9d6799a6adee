//! CRC64NVME, the checksum that S3 can state for a whole multipart object.

mod combine;

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};

/// A CRC64NVME value.
///
/// It is always a full-object checksum: those of adjacent ranges combine into that of both
/// together without reading the bytes again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crc64Nvme(pub u64);

impl Crc64Nvme {
    /// The checksum of no bytes.
    pub const EMPTY: Self = Self(0);

    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes))
    }

    /// The checksum of this range followed by a range of `len` bytes with checksum `next`.
    #[must_use]
    pub fn followed_by(self, next: Self, len: u64) -> Self {
        Self(combine::moved_by(self.0, len) ^ next.0)
    }

    /// A running computation over bytes that come in pieces.
    pub fn digest() -> Crc64Digest {
        Crc64Digest(Digest::new(CrcAlgorithm::Crc64Nvme))
    }

    /// Base64 of the big-endian value: how S3's headers and reeltime's documents spell it.
    pub fn to_base64(self) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut bits = u128::from(self.0) << 8;
        let mut text = String::with_capacity(12);
        bits <<= 56;
        for _ in 0..11 {
            text.push(char::from(ALPHABET[(bits >> 122) as usize & 63]));
            bits <<= 6;
        }
        text.push('=');
        text
    }

    /// Reads what [`Self::to_base64`] writes; `None` for anything else.
    pub fn from_base64(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('=')?;
        if digits.len() != 11 {
            return None;
        }
        let mut bits: u128 = 0;
        for digit in digits.bytes() {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u128::from(value);
        }
        if bits & 0b11 != 0 {
            return None;
        }
        u64::try_from(bits >> 2).ok().map(Self)
    }
}

impl fmt::Debug for Crc64Nvme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A CRC64NVME that is being computed.
#[derive(Clone, Debug)]
pub struct Crc64Digest(Digest);

impl Crc64Digest {
    /// Adds the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes given so far.
    pub fn finish(&self) -> Crc64Nvme {
        Crc64Nvme(self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_is_met() {
        assert_eq!(Crc64Nvme::of(b"123456789"), Crc64Nvme(0xae8b_1486_0a79_9888));
        assert_eq!(Crc64Nvme::of(b""), Crc64Nvme::EMPTY);
    }

    #[test]
    fn pieces_combine_to_the_whole() {
        let whole: Vec<u8> = (0..100_000u32).map(|i| (i * 7 + i / 13) as u8).collect();
        let (head, tail) = whole.split_at(33_333);
        let combined = Crc64Nvme::of(head).followed_by(Crc64Nvme::of(tail), tail.len() as u64);
        assert_eq!(combined, Crc64Nvme::of(&whole));
        assert_eq!(combined.followed_by(Crc64Nvme::EMPTY, 0), combined);
        assert_eq!(Crc64Nvme::EMPTY.followed_by(Crc64Nvme::of(&whole), whole.len() as u64), combined);
    }

    #[test]
    fn lengths_of_parts_combine_as_the_library_does_it() {
        for len in [1, 2, 7, 8, 1 << 13, 5 << 20, (8 << 20) + 3, 5 << 30, u64::MAX] {
            for (one, next) in [(1, 2), (u64::MAX, 0), (0xae8b_1486_0a79_9888, 77)] {
                let combined = Crc64Nvme(one).followed_by(Crc64Nvme(next), len);
                let theirs = crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, one, next, len);
                assert_eq!(combined, Crc64Nvme(theirs), "{len}");
            }
        }
    }

    #[test]
    fn base64_reads_back() {
        for value in [0, 1, u64::MAX, 0xae8b_1486_0a79_9888] {
            let text = Crc64Nvme(value).to_base64();
            assert_eq!(text.len(), 12);
            assert_eq!(Crc64Nvme::from_base64(&text), Some(Crc64Nvme(value)));
        }
        assert_eq!(Crc64Nvme(0xae8b_1486_0a79_9888).to_base64(), "rosUhgp5mIg=");
        for bad in ["", "=", "rosUhgp5mIg", "rosUhgp5mIh=", "rosUhgp5m g="] {
            assert_eq!(Crc64Nvme::from_base64(bad), None, "{bad}");
        }
    }
}
