//! Tests that measure time run alone; all others run concurrently.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::const_new(());

pub(crate) async fn side_by_side() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}
