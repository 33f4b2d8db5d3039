//! The words of the admin socket.

use enforcer_admin::{Answer, Call, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One line of the protocol, in either direction.
///
/// What is understood is understood again when it is written down, and written the same; a call
/// with a key that nobody knows is refused, for it may have meant something.
pub fn admin_call(bytes: &[u8]) {
    if written::<Call>(bytes) {
        knows_every_key(bytes);
    }
    written::<Result<Answer, Refusal>>(bytes);
}

/// Whether `bytes` are a `T`; if so, writing and reading it changes nothing.
fn written<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else { return false };
    let line = serde_json::to_string(&read).expect("what was read can be written");
    assert!(!line.contains('\n'), "two lines: {line}");
    let again = serde_json::from_str::<T>(&line);
    let again = again.map(|again| serde_json::to_string(&again));
    match again {
        Ok(Ok(again)) => assert_eq!(again, line),
        Ok(Err(error)) | Err(error) => panic!("{error}: {line}"),
    }
    true
}

fn knows_every_key(call: &[u8]) {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(call) else { return };
    fields.insert("nobody-knows-this".to_owned(), Value::Bool(true));
    let call = Value::Object(fields);
    assert!(serde_json::from_value::<Call>(call.clone()).is_err(), "understood as well: {call}");
}
