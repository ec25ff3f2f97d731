//! Files from elsewhere: addresses and the hub, downloads that go on where they broke off, checksums,
//! archives unpacked so that nothing in them can do harm. Knows neither weights nor pictures.

mod archive;
pub mod download;
mod error;
pub(crate) mod http;
pub mod hub;
#[cfg(test)]
pub(crate) mod loopback;
mod part;
pub mod store;
#[cfg(test)]
mod tests;
mod transfer;

pub use archive::{Budget, unpack};
pub use download::{Address, Downloads};
pub use error::FetchError;
pub use hub::{Hub, RepoType};
pub use store::{Record, Store, Stored};
pub use transfer::{Download, is_sha256, sha256_of};
