//! A value that one caller uses at a time, in the order in which they asked.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    ops::{Deref, DerefMut},
};

use futures_channel::oneshot;

/// Hands its value from caller to caller; nothing is borrowed while they wait. For one thread.
pub(crate) struct Turns<T> {
    idle: Cell<Option<T>>,
    waiting: RefCell<VecDeque<oneshot::Sender<T>>>,
}

impl<T> Turns<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            idle: Cell::new(Some(value)),
            waiting: RefCell::default(),
        }
    }

    /// Waits for its turn. The turn ends when what this returns is dropped. Must be awaited to the end.
    pub(crate) async fn take(&self) -> Turn<'_, T> {
        let value = match self.idle.take() {
            Some(value) => value,
            None => {
                let (hand_over, mine) = oneshot::channel();
                self.waiting.borrow_mut().push_back(hand_over);
                mine.await.expect("whoever has a turn hands it over")
            }
        };
        Turn {
            value: Some(value),
            turns: self,
        }
    }
}

/// The value, while it is one's turn.
pub(crate) struct Turn<'a, T> {
    value: Option<T>,
    turns: &'a Turns<T>,
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("there until dropped")
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("there until dropped")
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut value = self.value.take().expect("dropped once");
        while let Some(next) = { self.turns.waiting.borrow_mut().pop_front() } {
            match next.send(value) {
                Ok(()) => return,
                Err(back) => value = back, // that one no longer waits
            }
        }
        self.turns.idle.set(Some(value));
    }
}
