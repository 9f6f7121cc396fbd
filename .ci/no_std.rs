//! Proves that `cldc-core` and all that it depends on do without std and alloc: .ci/run compiles this file against it.
//!
//! If std were among its dependencies there would be two panic handlers; if alloc were, there would be no allocator.
//! Either is an error of the compiler, also when nothing of std or alloc is used.
#![no_std]

use cldc_core as _;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
