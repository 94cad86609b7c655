//! Model names as metric labels: the first names seen keep theirs, later ones become `other`.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// Distinct model names that may be labels. Clients choose model names, so there must be an end.
const MOST: usize = 200;
/// Longest model name that may be a label, in bytes.
const LONGEST: usize = 80;

static OTHER: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("other"));
static UNKNOWN: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("unknown"));

/// The model names in use as labels.
#[derive(Debug, Default)]
pub(super) struct ModelLabels(RwLock<HashSet<Arc<str>>>);

impl ModelLabels {
    /// The label for `model`; `unknown` where the request named none.
    pub(super) fn label(&self, model: Option<&str>) -> Arc<str> {
        let Some(model) = model else { return UNKNOWN.clone() };
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(model) {
            return known.clone();
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
        if model.is_empty() || model.len() > LONGEST || !model.bytes().all(plain) {
            return OTHER.clone();
        }
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MOST {
            return OTHER.clone();
        }
        let name: Arc<str> = Arc::from(model);
        names.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_labels_have_an_end() {
        let labels = ModelLabels::default();
        assert_eq!(&*labels.label(None), "unknown");
        assert_eq!(&*labels.label(Some("no spaces allowed")), "other");
        for number in 0..MOST {
            let name = format!("model-{number}");
            assert_eq!(*labels.label(Some(&name)), *name);
        }
        assert_eq!(&*labels.label(Some("one-more")), "other");
        assert_eq!(&*labels.label(Some("model-7")), "model-7");
    }
}
