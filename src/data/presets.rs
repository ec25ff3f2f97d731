//! Data sets by name: where they are, what they must be, whose they are.

use crate::config::DataPreset;

/// A well-known archive of class folders.
#[derive(Debug)]
pub(super) struct Preset {
    /// Its name in a configuration.
    pub(super) name: &'static str,
    /// Where it is.
    pub(super) url: &'static str,
    /// SHA-256, where its publisher or a catalogue gives one. None is made up: what has none here is
    /// recorded with that of its first download.
    pub(super) sha256: Option<&'static str>,
    /// Folder of the class folders, or of the splits' folders.
    pub(super) inside: &'static str,
    /// Terms of use.
    pub(super) licence: &'static str,
    /// Whom to cite.
    pub(super) citation: &'static str,
}

/// The preset of that name.
pub(super) fn preset(name: DataPreset) -> &'static Preset {
    match name {
        DataPreset::TfFlowers => &TF_FLOWERS,
        DataPreset::CatsVsDogs => &CATS_VS_DOGS,
        DataPreset::AntsBees => &ANTS_BEES,
    }
}

const TF_FLOWERS: Preset = Preset {
    name: "tf_flowers",
    url: "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
    // tensorflow/datasets, url_checksums/tf_flowers.txt: 228813984 bytes.
    sha256: Some("4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c"),
    inside: "flower_photos",
    licence: "CC BY 2.0, photographers in its LICENSE.txt",
    citation: "The TensorFlow Team, Flowers, 2019",
};

const CATS_VS_DOGS: Preset = Preset {
    name: "cats_vs_dogs",
    url: "https://storage.googleapis.com/mledu-datasets/cats_and_dogs_filtered.zip",
    sha256: None,
    inside: "cats_and_dogs_filtered",
    licence: "the terms of Kaggle's Dogs vs. Cats competition, from which it is taken",
    citation: "Elson, Douceur, Howell and Saul, Asirra: A CAPTCHA that exploits \
               interest-aligned manual image categorization, CCS 2007",
};

const ANTS_BEES: Preset = Preset {
    name: "ants_bees",
    url: "https://download.pytorch.org/tutorial/hymenoptera_data.zip",
    sha256: None,
    inside: "hymenoptera_data",
    licence: "ImageNet's terms, from which it is taken: research that is not commercial",
    citation: "Chilamkurthy, Transfer learning for computer vision tutorial, PyTorch; \
               Deng et al., ImageNet, CVPR 2009",
};
