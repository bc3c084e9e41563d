//! Records of the logs: what is accepted is the same after it was written and read again.

use std::fmt::Debug;

use domain::{ClaimRecord, Commit, DecodeError, DeliveryRecord, Message};

/// Any bytes as a record of each kind.
pub(crate) fn record(bytes: &[u8]) {
    check(bytes, Commit::decode, Commit::encode);
    check(bytes, Message::decode, Message::encode);
    check(bytes, ClaimRecord::decode, ClaimRecord::encode);
    check(bytes, DeliveryRecord::decode, DeliveryRecord::encode);
}

fn check<T: Debug + PartialEq>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(record) = decode(bytes) {
        let again = decode(&encode(&record));
        assert_eq!(
            again.ok().as_ref(),
            Some(&record),
            "it changes when it is written"
        );
    }
}
