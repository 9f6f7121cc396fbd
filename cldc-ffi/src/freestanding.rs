//! What `core` asks of a library without `std`.

/// Never called: there is no way to panic, which `tests/freestanding.rs` sees to.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
