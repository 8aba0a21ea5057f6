//! Signing and verifying (to come).

use crate::name::NameBuf;
use std::collections::HashMap;
use std::sync::Arc;

/// A key that messages are signed with.
pub struct TsigKey;

/// The keys by name.
pub type Keys = HashMap<NameBuf, Arc<TsigKey>>;
