//! The gob types of Rust types, and of types with a description made by hand, made once per process; each thread caches those that it has used.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::gob_type;
use super::types::GobType;
use crate::codec::describe::{DescribeError, Description};
use crate::codec::{Codec, CodecError};

/// A hasher that returns the type id unchanged, since type ids are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type ByType<V> = HashMap<TypeId, V, BuildHasherDefault<AsItIs>>;
/// The outcome for one type, kept for the life of the process, so that threads that encode the same type share
/// no reference count. Failures are kept as well: describing a type costs far more than refusing it.
type TypeResult = Result<&'static Arc<GobType>, CodecError>;

static TYPES: Mutex<Option<ByType<TypeResult>>> = Mutex::new(None);

thread_local! {
    static USED: RefCell<ByType<&'static Arc<GobType>>> = RefCell::default();
}

fn types() -> MutexGuard<'static, Option<ByType<TypeResult>>> {
    TYPES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaks the type, so that it lives as long as the process.
fn kept(made: GobType) -> &'static Arc<GobType> {
    Box::leak(Box::new(Arc::new(made)))
}

pub(super) fn type_of<K: 'static>(describe: fn() -> Result<Description, DescribeError>) -> TypeResult {
    let id = TypeId::of::<K>();
    if let Some(known) = USED.with_borrow(|used| used.get(&id).copied()) {
        return Ok(known);
    }
    let known = types().get_or_insert_default().get(&id).cloned();
    let outcome = known.unwrap_or_else(|| {
        // Runs without the lock, since describing runs the type's own `Deserialize`.
        let made = describe()
            .map_err(|error| CodecError::Encode { codec: Codec::Gob, what: error.to_string() })
            .and_then(|description| gob_type(&description));
        types().get_or_insert_default().entry(id).or_insert_with(|| made.map(kept)).clone()
    })?;
    USED.with_borrow_mut(|used| used.insert(id, outcome));
    Ok(outcome)
}
