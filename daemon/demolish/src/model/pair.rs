//! The two models of a process, and whose work goes to which.

use engine::{Class, Engine};

use super::Model;
use crate::config;

/// What a model is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ghost text: it must be quick.
    Typing,
    /// Everything that somebody waits for knowingly: fixes, the agent, clients of the doors.
    Agent,
}

/// The models of this process. Cloning is cheap; all clones share them.
#[derive(Debug, Clone)]
pub struct Models {
    typing: Model,
    /// Used where the settings name a model of its own for the agent.
    agent: Model,
}

impl Models {
    /// What the settings ask for; nothing is read yet.
    #[must_use]
    pub fn new(settings: &config::Model) -> Models {
        Models {
            typing: Model::new(settings, Role::Typing),
            agent: Model::new(settings, Role::Agent),
        }
    }

    /// A model that is already there, for everything: scripted ones in tests.
    #[must_use]
    pub fn ready(engine: Engine) -> Models {
        Models::of_one(Model::ready(engine))
    }

    /// One model for everything.
    #[must_use]
    pub fn of_one(typing: Model) -> Models {
        let agent = Model::new(&typing.settings(), Role::Agent);
        Models { typing, agent }
    }

    /// The model for whoever types.
    #[must_use]
    pub fn typing(&self) -> &Model {
        &self.typing
    }

    /// The agent's model, if it has one of its own.
    #[must_use]
    pub fn agent(&self) -> Option<&Model> {
        let settings = self.agent.settings();
        let has_own = settings.agent_path.is_some() || settings.remote_url.is_some();
        // The server that types is the agent's too: one engine, not two.
        let is_shared = settings.remote_url.is_some() && settings.remote_typing;
        (has_own && !is_shared).then_some(&self.agent)
    }

    /// The model for work of a class.
    #[must_use]
    pub fn of(&self, class: Class) -> &Model {
        match class {
            Class::Typing => &self.typing,
            Class::Fix | Class::Agent | Class::Served => self.agent().unwrap_or(&self.typing),
        }
    }

    /// Whether they are the models that these settings ask for.
    #[must_use]
    pub fn are_for(&self, settings: &config::Model) -> bool {
        self.typing.is_for(settings) && self.agent.is_for(settings)
    }

    /// Asks for the models of these settings from now on. `false`: another one is loaded, or being loaded, and stays.
    pub fn adopt(&self, settings: &config::Model) -> bool {
        // Both or none: they share one plan of memory.
        if !self.are_for(settings) && [&self.typing, &self.agent].iter().any(|model| model.stays())
        {
            return false;
        }
        self.typing.adopt(settings) && self.agent.adopt(settings)
    }
}
