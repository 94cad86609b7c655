//! Bytes as hexadecimal digits. What has to be wiped from memory is written where it is wiped.

/// Two digits a byte, in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
