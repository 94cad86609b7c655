//! The reader against frames that are written by hand, in any portions, and against bytes that are none.

use proptest::prelude::*;

use super::*;

/// A frame as a test thinks of it.
#[derive(Clone, Debug)]
struct Written {
    first: u8,
    mask: Option<[u8; 4]>,
    payload: Vec<u8>,
}

impl Written {
    fn bytes(&self) -> Vec<u8> {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
            length @ 0..126 => bytes.push(masked | u8::try_from(length).unwrap()),
            length @ 126..65_536 => {
                bytes.push(masked | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(masked | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(self.mask.iter().flatten());
        let keys = self.mask.unwrap_or_default();
        let masked = self.payload.iter().zip(keys.iter().cycle());
        bytes.extend(masked.map(|(byte, key)| byte ^ key));
        bytes
    }
}

/// What was read: each frame with its payload, and all bytes that the parts covered.
#[derive(Debug, Default, PartialEq)]
struct Read {
    frames: Vec<(Opcode, bool, Vec<u8>)>,
    wire: Vec<u8>,
    unfinished: bool,
    error: Option<FrameError>,
}

fn read<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut reader = Frames::default();
    let mut read = Read::default();
    for mut portion in portions {
        loop {
            match reader.next(&mut portion) {
                Ok(None) => break,
                Err(error) => {
                    read.error = Some(error);
                    return read;
                }
                Ok(Some(part)) => {
                    assert_eq!(part.begins, !read.unfinished);
                    if part.begins {
                        read.frames.push((part.opcode, part.is_final, Vec::new()));
                    }
                    read.wire.extend(part.wire);
                    let (opcode, is_final, payload) = read.frames.last_mut().unwrap();
                    assert_eq!((*opcode, *is_final), (part.opcode, part.is_final));
                    part.unmask_into(payload);
                    read.unfinished = !part.ends;
                }
            }
        }
    }
    read
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..140_usize, 1 => 65_530..65_540_usize]
}

/// A message in one to three frames, with control frames between them.
fn message() -> impl Strategy<Value = Vec<Written>> {
    let control = (prop_oneof![Just(0x89_u8), Just(0x8a)], 0..126_usize);
    let piece = (
        lengths(),
        proptest::option::of(any::<[u8; 4]>()),
        proptest::option::of(control),
    );
    let pieces = prop::collection::vec(piece, 1..4);
    (pieces, prop_oneof![Just(1_u8), Just(2)], any::<u8>()).prop_map(|(pieces, opcode, seed)| {
        let fill = |length: usize| (0..length).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
        let last = pieces.len() - 1;
        let mut frames = Vec::new();
        for (at, (length, mask, control)) in pieces.into_iter().enumerate() {
            let first = if at == 0 { opcode } else { 0 } | if at == last { 0x80 } else { 0 };
            let payload = fill(length);
            frames.push(Written { first, mask, payload });
            if let Some((first, length)) = control {
                let payload = fill(length);
                frames.push(Written { first, mask, payload });
            }
        }
        frames
    })
}

fn cut<'a>(bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let (portion, after) = rest.split_at((*sizes.next()?).min(rest.len()));
        rest = after;
        (!portion.is_empty()).then_some(portion)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_are_read_in_any_portions(
        messages in prop::collection::vec(message(), 1..3),
        sizes in prop::collection::vec(1..200_usize, 1..8),
    ) {
        let written: Vec<Written> = messages.concat();
        let bytes: Vec<u8> = written.iter().flat_map(Written::bytes).collect();
        let want: Vec<_> = written
            .iter()
            .map(|frame| (Opcode::of(frame.first).unwrap(), frame.first & 0x80 != 0, frame.payload.clone()))
            .collect();
        for got in [read([bytes.as_slice()]), read(cut(&bytes, &sizes)), read(bytes.chunks(1))] {
            prop_assert_eq!(&got.frames, &want);
            prop_assert_eq!(&got.wire, &bytes);
            prop_assert_eq!((got.unfinished, got.error), (false, None));
        }
    }

    #[test]
    fn any_bytes_are_read_the_same_in_any_portions(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x81), Just(0x01), Just(0x80), Just(0x00)], 0..400),
        sizes in prop::collection::vec(1..30_usize, 1..8),
    ) {
        let (whole, parts) = (read([bytes.as_slice()]), read(cut(&bytes, &sizes)));
        prop_assert_eq!(whole.error, parts.error);
        if whole.error.is_none() {
            prop_assert_eq!(whole, parts);
        }
    }

    #[test]
    fn own_frames_can_be_read(payload in lengths().prop_map(|length| vec![b'x'; length])) {
        let bytes = text(&payload);
        prop_assert_eq!(super::payload(&bytes), payload.clone());
        prop_assert_eq!(read([bytes.as_slice()]).frames, vec![(Opcode::Text, true, payload)]);
    }
}

#[test]
fn what_is_no_frame_is_refused_at_its_first_wrong_byte() {
    let cases: &[(&[u8], usize, FrameError)] = &[
        (&[0xc1, 0x00], 1, FrameError::Reserved),
        (&[0x91, 0x00], 1, FrameError::Reserved),
        (&[0x83, 0x00], 1, FrameError::UnknownOpcode),
        (&[0x8b, 0x00], 1, FrameError::UnknownOpcode),
        (&[0x80, 0x00], 1, FrameError::OutOfOrder),
        (&[0x01, 0x00, 0x81, 0x00], 3, FrameError::OutOfOrder),
        (&[0x81, 0x00, 0x00, 0x00], 3, FrameError::OutOfOrder),
        (&[0x09, 0x00], 1, FrameError::BadControl),
        (&[0x89, 0x7e], 2, FrameError::BadControl),
        (&[0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0], 10, FrameError::TooLong),
    ];
    for (bytes, wrong, want) in cases {
        let good = read([&bytes[..wrong - 1]]);
        assert_eq!(good.error, None, "{bytes:x?}");
        let mut portions = bytes.chunks(1);
        assert_eq!(
            read(portions.by_ref().take(*wrong)).error,
            Some(*want),
            "{bytes:x?}"
        );
    }
    let mut reader = Frames::default();
    assert!(reader.next(&mut &b"\xff"[..]).is_err());
    assert!(
        reader.next(&mut &text(b"x")[..]).is_err(),
        "nothing can be read after an error"
    );
}

#[test]
fn a_message_may_begin_only_between_messages() {
    let mut reader = Frames::default();
    let ping = [0x89, 0x01, b'p'];
    let bytes = [&[0x01, 0x01, b'a'][..], &ping, &[0x80, 0x02, b'b', b'c'], &ping].concat();
    let mut between = Vec::new();
    for byte in &bytes {
        assert!(reader.next(&mut &[*byte][..]).unwrap().is_some());
        between.push(reader.is_between_messages());
    }
    let want = [
        false, false, false, false, false, false, false, false, false, true, false, false, true,
    ];
    assert_eq!(between, want);
}

#[test]
fn a_close_says_why() {
    let bytes = close(1001, "going away");
    assert_eq!(
        closing(&super::payload(&bytes)),
        (Some(1001), "going away".to_owned())
    );
    assert_eq!(closing(b""), (None, String::new()));
    assert_eq!(closing(b"\x03"), (None, String::new()));
}
