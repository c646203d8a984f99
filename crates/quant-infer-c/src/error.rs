//! The text of a thread's last error, and the border that no panic crosses.

use std::{
    any::Any,
    cell::RefCell,
    ffi::{CStr, CString},
    panic::{AssertUnwindSafe, catch_unwind},
};

std::thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Returns the result of `body`. If it fails or panics, the text is kept for [`last`], and the
/// result is `failed`.
pub(crate) fn guard<T>(failed: T, body: impl FnOnce() -> Result<T, String>) -> T {
    // What a panic leaves half done is a handle's: a session refuses to run again then, and a
    // network does not change.
    let problem = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return value,
        Ok(Err(problem)) => problem,
        Err(panic) => format!("an error inside the library: {}", message(&*panic)),
    };
    let text = c_string(&problem);
    // A thread that is about to end has no text any more.
    let _ = LAST.try_with(|last| last.replace(text));
    failed
}

/// Calls `read` with the text of the last error of this thread, which is empty if there was none.
pub(crate) fn last<T>(failed: T, read: impl FnOnce(&CStr) -> T) -> T {
    LAST.try_with(|last| read(&last.borrow())).unwrap_or(failed)
}

/// Returns the text as C knows texts, with U+FFFD in place of characters with the number zero.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().unwrap_or(&"no message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        last(String::new(), |text| text.to_string_lossy().into_owned())
    }

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        assert_eq!(guard(-1, || panic!("the number {} is too large", 7)), -1);
        assert_eq!(text(), "an error inside the library: the number 7 is too large");
        assert_eq!(guard(-2, || panic!("no numbers")), -2);
        assert_eq!(text(), "an error inside the library: no numbers");
    }

    #[test]
    fn the_text_stays_until_the_next_error_of_the_thread() {
        assert_eq!(text(), "");
        assert_eq!(guard(0, || Err("first\0error".to_owned())), 0);
        assert_eq!(guard(0, || Ok(5)), 5);
        assert_eq!(text(), "first\u{fffd}error");
        assert_eq!(std::thread::spawn(text).join().unwrap(), "");
    }
}
