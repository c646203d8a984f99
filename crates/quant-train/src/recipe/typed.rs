//! Conversion of a network's description by keywords to typed fields.

use super::{ModelRecipe, Recipe, model::Described};
use crate::error::TrainError;

impl Recipe {
    /// Returns the recipe with the networks that keywords describe, including those of teachers,
    /// written field by field. Also returns the keywords that do not describe a structure, each
    /// with what it is about.
    ///
    /// What keywords say about quantized layers (`first-last`, `real_skip`,
    /// `--padding_after_quant`) becomes fields of the phases that quantize. The networks of all
    /// phases stay equal.
    ///
    /// # Errors
    /// The errors of the keywords, and [`TrainError::Invalid`] with the keywords and options where
    /// a typed field does not take their value.
    pub fn typed(&self) -> Result<(Self, Vec<String>), TrainError> {
        let mut recipe = self.clone();
        let mut idle = Vec::new();
        if let Some(Described { structure, layers, idle: words }) = described(&self.model)? {
            recipe.model = ModelRecipe::Typed(structure);
            let phases = recipe.phases.iter_mut();
            phases
                .filter_map(|phase| phase.quantization.as_mut())
                .for_each(|quantization| layers.add_to_phase(quantization));
            idle.extend(words);
        }
        let teachers = recipe.phases.iter_mut().filter_map(|phase| phase.distillation.as_mut());
        for model in teachers.filter_map(|distillation| distillation.model.as_mut()) {
            // A teacher has no quantizers.
            if let Some(teacher) = described(model)? {
                *model = ModelRecipe::Typed(teacher.structure);
                idle.extend(teacher.idle);
            }
        }
        recipe.validate().map_err(|error| self.untypable(&error))?;
        Ok((recipe, idle))
    }

    /// Returns the error of typed fields as an error of the keywords from which they were made.
    fn untypable(&self, error: &TrainError) -> TrainError {
        let error = error.to_string();
        let error = error.trim_start_matches("recipe: ");
        let ModelRecipe::Keywords(model) = &self.model else {
            let reason = format!("the keywords of a teacher cannot be written as fields: {error}");
            return TrainError::Invalid { field: "phase.distillation.model".into(), reason };
        };
        let words = model.keywords.as_deref().unwrap_or_default();
        let options = model.options.as_deref().unwrap_or_default();
        TrainError::Invalid {
            field: "model".into(),
            reason: format!(
                "the keywords \"{words}\" with the options \"{options}\" cannot be written as \
                 fields: {error}"
            ),
        }
    }
}

fn described(model: &ModelRecipe) -> Result<Option<Described>, TrainError> {
    match model {
        ModelRecipe::Keywords(model) => model.read().map(Some),
        _ => Ok(None),
    }
}
