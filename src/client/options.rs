//! [`CallOptions`]: the settings of one call, in place of those of its client.

use std::sync::Arc;
use std::time::Duration;

use super::CallError;
use super::shared::Client;
use crate::codec::Codec;
use crate::message::{MetadataBuf, MetadataTooLong, Priority};
use crate::wire::Scheme;

/// The settings of a call. What is not set is as the client has it.
///
/// ```
/// # use coreloop::{Context, Server, Status};
/// use std::time::Duration;
/// use coreloop::client::{CallOptions, Client};
///
/// # struct Shop;
/// # #[coreloop::service]
/// # impl Shop {
/// #     fn price(&self, _cx: &Context, count: u32) -> Result<u64, Status> { Ok(40 * u64::from(count)) }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder().service(Shop).listen("127.0.0.1:0").start()?;
/// # let address = server.addresses()[0].to_string();
/// let client = Client::connect(&address)?;
/// let options = CallOptions::new().timeout(Duration::from_millis(200)).metadata("tenant", "7");
/// let shop = ShopClient::new(client.with_options(&options));
/// assert_eq!(shop.price(&2)?, 80);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options have an effect only on a call"]
pub struct CallOptions {
    timeout: Option<Duration>,
    metadata: Option<Arc<MetadataBuf>>,
    /// An entry that does not fit into the metadata.
    too_long: Option<MetadataTooLong>,
    codec: Option<Codec>,
    compression: Option<bool>,
    priority: Option<Priority>,
    idempotent: Option<bool>,
    key: Option<u64>,
}

impl CallOptions {
    /// Creates options that change nothing.
    pub fn new() -> CallOptions {
        CallOptions::default()
    }

    /// Sets the time limit of the call, from its start ([`Client::with_timeout`]).
    pub fn timeout(mut self, timeout: Duration) -> CallOptions {
        self.timeout = Some(timeout);
        self
    }

    /// Adds an entry of metadata, after those of the client. If all entries together do not fit, the call fails with
    /// [`CallError::MetadataTooLong`], and with [`CallError::Metadata`] if the protocol of the address cannot transmit
    /// the entry.
    pub fn metadata(mut self, key: &str, value: impl AsRef<[u8]>) -> CallOptions {
        let entries = Arc::make_mut(self.metadata.get_or_insert_default());
        if let Err(error) = entries.push(key, value.as_ref()) {
            self.too_long.get_or_insert(error);
        }
        self
    }

    /// Sets the codec ([`Client::with_codec`]).
    pub fn codec(mut self, codec: Codec) -> CallOptions {
        self.codec = Some(codec);
        self
    }

    /// Sets whether the argument is compressed ([`Client::with_compression`]).
    pub fn compression(mut self, compresses: bool) -> CallOptions {
        self.compression = Some(compresses);
        self
    }

    /// Sets the priority ([`Client::with_priority`]).
    pub fn priority(mut self, priority: Priority) -> CallOptions {
        self.priority = Some(priority);
        self
    }

    /// Sets the key of the call ([`Client::with_key`]).
    pub fn key(mut self, key: impl AsRef<[u8]>) -> CallOptions {
        self.key = Some(key_hash(key.as_ref()));
        self
    }

    /// Sets whether the call may run twice ([`Client::with_idempotent`]).
    pub fn idempotent(mut self, idempotent: bool) -> CallOptions {
        self.idempotent = Some(idempotent);
        self
    }
}

/// Returns the hash of a key (FNV-1a, 64 bits, then mixed): the same in every process, so that clients agree on the
/// server of a key.
fn key_hash(key: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, fold);
    // FNV alone leaves short keys that differ in their last byte close to each other (MurmurHash3's finalizer).
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

impl Client {
    /// Returns the same client with a key for each call. With several servers and consistent hashing, calls of the same
    /// key go to the same server while it is usable: a cache there is met again. Otherwise the key has no effect; it is
    /// not sent.
    pub fn with_key(&self, key: impl AsRef<[u8]>) -> Client {
        let key = key_hash(key.as_ref());
        self.with(|settings| settings.key = Some(key))
    }

    /// Returns the same client with these settings. It allocates only if both the client and the options have metadata, or
    /// for a priority.
    pub fn with_options(&self, options: &CallOptions) -> Client {
        let CallOptions { timeout, ref metadata, too_long, codec, compression, priority, idempotent, key } =
            *options;
        let scheme = self.scheme();
        self.with(|settings| {
            settings.timeout = timeout.or(settings.timeout);
            settings.codec = codec.or(settings.codec);
            settings.compresses = compression.unwrap_or(settings.compresses);
            settings.idempotent = idempotent.unwrap_or(settings.idempotent);
            settings.key = key.or(settings.key);
            let mut too_long = too_long;
            if let Some(added) = metadata {
                for (key, value) in added.view().iter() {
                    if let Some(misfit) = Misfit::of_entry(scheme, key, value) {
                        settings.misfit = Some(misfit);
                    }
                }
                match &mut settings.metadata {
                    None => settings.metadata = Some(added.clone()),
                    Some(own) => {
                        let own = Arc::make_mut(own);
                        for (key, value) in added.view().iter() {
                            too_long = own.push(key, value).err().or(too_long);
                        }
                    }
                }
            }
            if let Some(priority) = priority.filter(|_| scheme.carries_metadata()) {
                let own = Arc::make_mut(settings.metadata.get_or_insert_default());
                too_long = own.set(Priority::KEY, priority.as_bytes()).err().or(too_long);
            }
            if let Some(error) = too_long {
                settings.misfit = Some(Arc::new(Misfit::TooLong(error)));
            }
        })
    }
}

/// An entry of metadata with which no call can be sent.
#[derive(Debug)]
pub(super) enum Misfit {
    /// The protocol cannot transmit the entry with this key.
    Protocol(String),
    /// The entries are too long.
    TooLong(MetadataTooLong),
}

impl Misfit {
    /// Returns why the protocol cannot transmit the entry, if it cannot.
    pub(super) fn of_entry(scheme: Scheme, key: &str, value: &[u8]) -> Option<Arc<Misfit>> {
        let fits = scheme.fits_metadata(key, value);
        (!fits).then(|| Arc::new(Misfit::Protocol(key.to_owned())))
    }

    #[cold]
    pub(super) fn error(&self, scheme: Scheme) -> CallError {
        match self {
            Misfit::Protocol(key) => CallError::Metadata { scheme, key: key.clone() },
            Misfit::TooLong(error) => CallError::MetadataTooLong(*error),
        }
    }
}
