//! Inputs as text: a byte that a text file may hold stands for itself, each other one for a piece of a
//! list. So the corpora can be read and written by hand, and chance alone meets whole lines.

/// The bytes that an input stands for. `pieces` are at most 159.
pub(crate) fn spell(input: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in input {
        match usize::from(*byte) {
            b @ 0..=8 => text.extend_from_slice(pieces[b % pieces.len()]),
            b @ (11 | 12) => text.extend_from_slice(pieces[(b - 2) % pieces.len()]),
            b @ 14..=31 => text.extend_from_slice(pieces[(b - 3) % pieces.len()]),
            b @ 127..=255 => text.extend_from_slice(pieces[(b - 98) % pieces.len()]),
            _ => text.push(*byte),
        }
    }
    text
}

/// The parts that bytes come in: by a letter, all at once (`@`), or one to 31 bytes each (`A` to `_`).
pub(crate) fn split(bytes: &[u8], letter: u8) -> impl Iterator<Item = &[u8]> {
    let size = match letter & 31 {
        0 => bytes.len(),
        size => usize::from(size),
    };
    bytes.chunks(size.max(1))
}

#[test]
fn every_byte_stands_for_something() {
    let pieces: Vec<[u8; 1]> = (0..159).map(|piece| [piece]).collect();
    let pieces: Vec<&[u8]> = pieces.iter().map(<[u8; 1]>::as_slice).collect();
    let mut met: Vec<u8> = (0..=255)
        .filter(|byte| !matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'))
        .flat_map(|byte| spell(&[byte], &pieces))
        .collect();
    met.dedup();
    assert_eq!(met, (0..=157).collect::<Vec<u8>>());
}
