"""The pack's nodes, one file per stage."""

from __future__ import annotations

from ..lib.bridge import ComfyExtension, io, rename_inputs_of_prompts, serve_odd_folder
from .ablation import InsertFace, SheetOfValues, ValuesToTry
from .archive import LoadNextPhotographs, SavePhotographs
from .degradation import CompareWithTruth, Degrade
from .diffbir import DiffBIRRestorer
from .enlarging import EnlargingRestorer
from .estimate import DamageGauge, EstimateDegradation, FacePair, FacePairFromImages, FaDeX, MapNet
from .evidence import PhotographEvidence
from .face2scene import ApplyFace2Scene, CodeToConditioning, Face2SceneRestorer
from .face_models import FaceModelRestorer
from .faceme import FaceMeRestorer
from .faces import DetectFaces, FacesToImages, ImagesToFaces, MatchFaces, ReviewFaces, ShowAlbumDetail
from .faded_colors import FadedColors
from .fusion import BlendFaces, ColorFix
from .generation import GenerativeAlbum, NoiseToSigmas, RestorationByGeneration
from .instantrestore import InstantRestoreRestorer
from .keep import KeepPerson
from .landmarks import CropFaces, DetectLandmarks, EditLandmarks
from .library_files import ForgetPerson, LoadLibraryFile, SaveLibrary
from .masks import MaskFaces, SegmentPeople
from .measure import Measure
from .old_photo import DamageMask, FillDamage, FillKnownFaces
from .personas import ApplyPersona, DiffusionBase, LoadPersona, SavePersona, TrainPersona
from .report import Report
from .restore import (
    EmbeddedRestorer,
    ReferenceDetail,
    RestoreFaces,
    RestoreScene,
    UpscaleModelRestorer,
)
from .s3diff import S3DiffRestorer
from .similarity import CompareCodes
from .sources import LibraryFromImages, LoadLibrary, LoadPhotograph, Sample, SampleGroup
from .stablesr import StableSRRestorer
from .stage_one import BuildDataset, TrainFaDeX
from .train_faces import TrainBaseModel, TrainGenerator
from .training import TrainFace2Scene
from .warps import AlignFaces, ApplyWarp
from .weights import DownloadWeights

NODES = (
    LoadPhotograph,
    Sample,
    LoadLibrary,
    LibraryFromImages,
    DetectFaces,
    MatchFaces,
    FacesToImages,
    ImagesToFaces,
    Degrade,
    EstimateDegradation,
    EmbeddedRestorer,
    ReferenceDetail,
    UpscaleModelRestorer,
    RestoreFaces,
    RestoreScene,
    BlendFaces,
    ColorFix,
    Report,
    CompareWithTruth,
    DownloadWeights,
    ReviewFaces,
    ShowAlbumDetail,
    RestorationByGeneration,
    S3DiffRestorer,
    SaveLibrary,
    LoadLibraryFile,
    ForgetPerson,
    Face2SceneRestorer,
    CodeToConditioning,
    FaceModelRestorer,
    FaceMeRestorer,
    MaskFaces,
    SegmentPeople,
    SampleGroup,
    InstantRestoreRestorer,
    ApplyFace2Scene,
    TrainFace2Scene,
    DiffBIRRestorer,
    DiffusionBase,
    TrainPersona,
    SavePersona,
    LoadPersona,
    ApplyPersona,
    GenerativeAlbum,
    NoiseToSigmas,
    StableSRRestorer,
    KeepPerson,
    PhotographEvidence,
    LoadNextPhotographs,
    SavePhotographs,
    FacePair,
    FacePairFromImages,
    FaDeX,
    MapNet,
    DamageGauge,
    Measure,
    DamageMask,
    FillDamage,
    FillKnownFaces,
    FadedColors,
    DetectLandmarks,
    EditLandmarks,
    CropFaces,
    AlignFaces,
    ApplyWarp,
    EnlargingRestorer,
    InsertFace,
    ValuesToTry,
    SheetOfValues,
    BuildDataset,
    TrainFaDeX,
    TrainBaseModel,
    TrainGenerator,
    CompareCodes,
)


class PersonalRestore(ComfyExtension):
    async def on_load(self) -> None:
        serve_odd_folder()
        rename_inputs_of_prompts()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
