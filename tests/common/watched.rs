//! A backend that writes down every pass, and fails when told to.

use std::{cell::RefCell, rc::Rc};

use outcrop::{
    Error, Result,
    backend::{Backend, Pass, Want},
    forward,
};

/// What went through, shared with the test.
#[derive(Debug, Default)]
pub struct Log {
    /// Ids, position and want of every pass.
    pub passes: Vec<(Vec<u32>, u32, Want)>,
    /// How often a state was zeroed.
    pub resets: usize,
    /// The pass after this many more fails once, when all of its work is done.
    pub fail_in: Option<usize>,
    /// Logits become NaN at this id.
    pub poison: Option<usize>,
}

pub struct Watched<B> {
    inner: B,
    pub log: Rc<RefCell<Log>>,
}

impl<B> Watched<B> {
    pub fn new(inner: B) -> Self {
        Watched {
            inner,
            log: Rc::default(),
        }
    }
}

impl<B: Backend> Backend for Watched<B> {
    type State = B::State;

    forward!(loading new_state n_ubatch ops reply);

    fn reset_state(&mut self, state: &mut Self::State) -> Result<()> {
        self.log.borrow_mut().resets += 1;
        self.inner.reset_state(state)
    }
    fn begin(&mut self, state: &mut Self::State, pass: &Pass) -> Result<bool> {
        self.log.borrow_mut().passes.push((pass.ids.to_vec(), pass.pos, pass.want));
        self.inner.begin(state, pass)
    }
    async fn end(&mut self, state: &mut Self::State, pass: &Pass<'_>, logits: &mut Vec<f32>) -> Result<Option<u32>> {
        let token = self.inner.end(state, pass, logits).await?;
        let mut log = self.log.borrow_mut();
        if let Some(id) = log.poison
            && matches!(pass.want, Want::Logits | Want::AllLogits)
        {
            logits[id] = f32::NAN;
        }
        match log.fail_in {
            Some(0) => {
                log.fail_in = None;
                Err(Error::GpuLost {
                    what: "a test pulled the plug".into(),
                })
            }
            Some(n) => {
                log.fail_in = Some(n - 1);
                Ok(token)
            }
            None => Ok(token),
        }
    }
}
