//! Strings of octets, eight at a time: what every query does to names and record data; and the
//! processor's hint that some will be read soon.
//!
//! **How it fits.** `name` folds and compares with it, `tree` compares keys, `wire` copies. The
//! strings are short - a label, a key, an address - so calls into the C library cost more than
//! their work; these are inlined and branch little.
//!
//! **Sections.** RFC 4343 (case).

/// The octets of a word.
const WORD: usize = size_of::<u64>();

/// The first eight octets, the first one lowest; zeros stand in for missing ones.
#[inline(always)]
pub fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => short_word(bytes),
    }
}

/// As [`word`], of fewer than eight octets.
#[inline(never)]
fn short_word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(low), Some(high)) => {
            let (low, high) = (u32::from_le_bytes(*low), u32::from_le_bytes(*high));
            u64::from(low) | u64::from(high) << (8 * (len % WORD - 4))
        }
        _ => bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// The lowest `len` octets set, at most all eight.
#[inline(always)]
pub fn mask(len: usize) -> u64 {
    const MASKS: [u64; WORD + 1] = {
        let mut masks = [u64::MAX; WORD + 1];
        let mut len = 0;
        while len < WORD {
            masks[len] = (1 << (8 * len)) - 1;
            len += 1;
        }
        masks
    };
    MASKS[len.min(WORD)]
}

/// 0x80 in each octet of `word` that is at least `least` and below 0x80. `least` is 1 to 0x80.
#[inline(always)]
fn at_least(word: u64, least: u8) -> u64 {
    let each = u64::from_ne_bytes([1; WORD]);
    let (tops, rest) = (each * 0x80, each * 0x7f);
    ((word & rest) + each * u64::from(0x80 - least)) & tops & !word
}

/// Upper-case ASCII letters made lower-case.
#[inline(always)]
pub fn fold(word: u64) -> u64 {
    let upper = at_least(word, b'A') & !at_least(word, b'Z' + 1);
    word | upper >> 2
}

/// Folded, and the octets below the letters moved up by one, so that zero is free.
#[inline(always)]
pub fn fold_above_zero(word: u64) -> u64 {
    let (letters, above) = (at_least(word, b'A'), at_least(word, b'Z' + 1));
    let low = !(letters | word) & u64::from_ne_bytes([0x80; WORD]);
    (word | (letters & !above) >> 2) + (low >> 7)
}

/// What [`fold_above_zero`] made of folded octets undone. Zeros stay.
#[inline(always)]
pub fn unfold_above_zero(word: u64) -> u64 {
    word - ((at_least(word, 1) & !at_least(word, b'A' + 1)) >> 7)
}

/// The eight digits of 40 bits in base32hex (RFC 4648 section 7), as [`fold_above_zero`] has them;
/// the first one highest.
#[inline(always)]
pub fn base32_above_zero(bits: u64) -> u64 {
    let each = u64::from_ne_bytes([1; WORD]);
    let halves = (bits >> 20) << 32 | bits & 0xf_ffff;
    let quarters = (halves >> 10 & 0x03ff_0000_03ff) << 16 | halves & 0x03ff_0000_03ff;
    let values = (quarters >> 5 & 0x1f_001f_001f_001f) << 8 | quarters & 0x1f_001f_001f_001f;
    let letters = (values + each * (0x80 - 10)) >> 7 & each;
    values + each * u64::from(b'0' + 1) + letters * u64::from(b'a' - 10 - (b'0' + 1))
}

/// How many leading octets two strings share.
#[inline]
pub fn common(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let mut at = 0;
    while at < len {
        let differ = word(&a[at..]) ^ word(&b[at..]);
        if differ != 0 {
            return len.min(at + differ.trailing_zeros() as usize / 8);
        }
        at += WORD;
    }
    len
}

/// Are the two the same but for the case of ASCII letters?
#[inline]
pub fn eq_folded(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && start_eq_folded(a, b, a.len())
}

/// Are the first `len` octets, which both have, the same but for the case of ASCII letters?
#[inline]
pub fn start_eq_folded(a: &[u8], b: &[u8], len: usize) -> bool {
    // Most are equal as they are.
    let same = |a: u64, b: u64| a == b || fold(a) == fold(b);
    if len < WORD {
        return same(word(a) & mask(len), word(b) & mask(len));
    }
    let (a, b) = (&a[..len], &b[..len]);
    let equal = |(a, b): (&[u8; WORD], &_)| same(u64::from_le_bytes(*a), u64::from_le_bytes(*b));
    // The last word overlaps the one before, so that any length takes whole ones.
    a.last_chunk().zip(b.last_chunk()).is_some_and(equal)
        && a.as_chunks().0.iter().zip(b.as_chunks().0).all(equal)
}

/// Copies `from` to the front of `to`, which must be as long.
#[inline(always)]
pub fn copy(to: &mut [u8], from: &[u8]) {
    let mut copy_word = |at: usize| to[at..at + WORD].copy_from_slice(&from[at..at + WORD]);
    match from.len() {
        len @ WORD..=32 => {
            // Overlapping, so that any length takes two or four words.
            let last = len - WORD;
            copy_word(0);
            copy_word(last);
            if len > 2 * WORD {
                copy_word(WORD);
                copy_word(last - WORD);
            }
        }
        4 => to[..4].copy_from_slice(&from[..4]),
        len => to[..len].copy_from_slice(from),
    }
}

/// Starts loading the cache line `offset` bytes from `base`; nothing on other architectures.
#[inline]
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the intrinsic takes a pointer, though it reads nothing")
)]
pub fn prefetch(base: *const u8, offset: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it faults at no address and changes no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(base.wrapping_add(offset).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (base, offset);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strings of every length up to 40 whose octets cover all values.
    fn strings() -> impl Iterator<Item = Vec<u8>> {
        (0..=40_u8).flat_map(|len| {
            (0..=255_u8).step_by(7).map(move |first| {
                (0..len).map(|at| first.wrapping_add(at.wrapping_mul(37))).collect()
            })
        })
    }

    #[test]
    fn words_hold_what_there_is_and_zeros() {
        for string in strings() {
            let mut padded = [0; WORD];
            let len = string.len().min(WORD);
            padded[..len].copy_from_slice(&string[..len]);
            assert_eq!(word(&string), u64::from_le_bytes(padded), "{string:?}");
            assert_eq!(word(&string) & mask(len), word(&string));
        }
        assert_eq!((mask(0), mask(3), mask(8)), (0, 0xff_ffff, u64::MAX));
    }

    #[test]
    fn folding_does_to_each_octet_what_it_does_to_one() {
        for byte in 0..=255_u8 {
            for neighbour in [0, b'A' - 1, b'A', b'Z', b'Z' + 1, 0x7f, 0x80, 0xff] {
                let octets = [neighbour, byte, byte, neighbour, byte, neighbour, neighbour, byte];
                let lower = octets.map(|byte| byte.to_ascii_lowercase());
                let above = lower.map(|byte| if byte <= 0x40 { byte + 1 } else { byte });
                assert_eq!(fold(u64::from_le_bytes(octets)), u64::from_le_bytes(lower));
                assert_eq!(fold_above_zero(u64::from_le_bytes(octets)), u64::from_le_bytes(above));
            }
        }
    }

    #[test]
    fn folding_is_undone() {
        for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_uppercase()) {
            let octets = u64::from_le_bytes([byte, b'a', 0, b'0', byte, byte, 0xff, byte]);
            assert_eq!(unfold_above_zero(fold_above_zero(octets)), octets, "{byte}");
        }
        assert_eq!(unfold_above_zero(0), 0);
    }

    #[test]
    fn digits_are_those_of_base32hex() {
        let digits = b"0123456789abcdefghijklmnopqrstuv";
        for first in 0..32_u64 {
            let values: [u64; WORD] = std::array::from_fn(|at| (first + 5 * at as u64) % 32);
            let bits = values.iter().fold(0, |bits, value| bits << 5 | value);
            let text = values.map(|value| digits[usize::try_from(value).unwrap()]);
            assert_eq!(
                base32_above_zero(bits),
                fold_above_zero(u64::from_be_bytes(text)),
                "{values:?}"
            );
        }
    }

    #[test]
    fn strings_are_compared_and_copied_whole() {
        for string in strings() {
            let mut copied = vec![0; string.len()];
            copy(&mut copied, &string);
            assert_eq!(copied, string);
            assert_eq!(common(&copied, &string), string.len());
            assert!(eq_folded(&string.to_ascii_uppercase(), &string.to_ascii_lowercase()));
            assert!(!eq_folded(&string, &[&string[..], b"x"].concat()));
            let longer = [&string[..], b"xy"].concat();
            assert!(start_eq_folded(&longer, &string.to_ascii_uppercase(), string.len()));
            for at in 0..string.len() {
                let mut other = string.clone();
                other[at] ^= 1;
                assert_eq!(common(&other, &string), at);
                assert_eq!(common(&other[..at], &string), at);
                assert!(!eq_folded(&other, &string));
                assert!(start_eq_folded(&other, &string, at));
                assert!(!start_eq_folded(&other, &string, at + 1));
            }
        }
    }
}
