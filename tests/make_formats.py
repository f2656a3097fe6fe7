"""Write formats/v1 anew: the dictionary, the attribute groups, the order and the manifest.

    python tests/make_formats.py WHEEL [--into FOLDER]

WHEEL is highdicom-0.28.2-py3-none-any.whl (`pip download --no-deps highdicom==0.28.2`). One of
its tables, made from PS3.3, says which attributes each module holds; these facts are taken, and
highdicom is no dependency. The dictionary comes from the installed pydicom.
The same inputs give the same bytes. A released version never changes: once 0.1.0 is out, a
change of what is written here belongs into a new folder `formats/v2`.

How the module groups come about (formats/README.md has the short form):

1. The seed's 16 groups come first, with their published names and lists.
2. Each entry of `FAMILIES`, in order, takes the top-level attributes of its modules that are
   neither in an earlier group nor in the `INSTANCE` list. So an attribute of several modules
   goes to the earliest: general modules, then what several modalities share, then single
   modalities, documents and presentation states, then what a worklist or a printer leaves in a
   file. The `instance` list names what is each instance's own by its nature, and bulk.
3. No family may be left with fewer than three attributes; what no family takes is `other`.

Within a group of ours attributes stand in ascending order of their tags.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from pydicom import __version__ as PYDICOM_VERSION  # noqa: N812 (a constant, renamed as one)
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom._version import __dicom_version__ as EDITION  # noqa: N812 (the same)

VERSION: Final = "1"
SMALLEST: Final = 3
WHEEL_SHA256: Final = "8864c7632e2c28c44ffaa3fe302d58cc68112b3b18a2b34e96e47252427cf6e4"

SEED_GROUPS: Final = {
    "patient": """
        PatientName PatientID PatientBirthDate PatientSex ReferencedPatientSequence
        PatientBirthTime OtherPatientIDs OtherPatientIDsSequence OtherPatientNames
        EthnicGroup PatientComments PatientSpeciesDescription PatientSpeciesCodeSequence
        PatientBreedDescription PatientBreedCodeSequence BreedRegistrationSequence
        ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization
        PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence
    """,
    "clinicalTrialSubject": "",
    "generalStudy": """
        StudyInstanceUID StudyDate StudyTime ReferringPhysicianName
        ReferringPhysicianIdentificationSequence StudyID AccessionNumber
        IssuerOfAccessionNumberSequence StudyDescription PhysiciansOfRecord
        PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
        PhysiciansReadingStudyIdentificationSequence RequestingServiceCodeSequence
        ReferencedStudySequence ProcedureCodeSequence
        ReasonForPerformedProcedureCodeSequence PatientAge PatientSize PatientWeight
    """,
    "patientStudy": "",
    "clinicalTrialStudy": "",
    "generalSeries": """
        Modality SeriesInstanceUID SeriesNumber Laterality SeriesDate SeriesTime
        PerformingPhysicianName PerformingPhysicianIdentificationSequence
        PerformingPhysicianIdentificationSequence SeriesDescription
        SeriesDescriptionCodeSequence OperatorsName OperatorIdentificationSequence
        ReferencedPerformedProcedureStepSequence RelatedSeriesSequence BodyPartExamined
        PatientPosition SmallestPixelValueInSeries LargestPixelValueInSeries
        RequestAttributesSequence AnatomicalOrientationType
    """,
    "clinicalTrialSeries": "",
    "enhancedSeries": "",
    "frameOfReference": """
        FrameOfReferenceUID PositionReferenceIndicator
    """,
    "synchronization": "",
    "generalEquipment": """
        Manufacturer InstitutionName InstitutionAddress StationName ManufacturerModelName
        DeviceSerialNumber SoftwareVersions GantryID SpatialResolution DateOfLastCalibration
        TimeOfLastCalibration PixelPaddingValue
    """,
    "enhancedGeneralEquipment": "",
    "generalImage": """
        PatientOrientation ImageType DerivationDescription DerivationCodeSequence
        ImagesInAcquisition ImageComments QualityControlImage BurnedInAnnotation
        RecognizableVisualFeatures LossyImageCompression LossyImageCompressionMethod
        PresentationLUTShape SOPClassUID SpecificCharacterSet InstanceCreationDate
        InstanceCreationTime
    """,
    "imagePlane": """
        PixelSpacing ImageOrientationPatient SliceThickness
    """,
    "imagePixel": """
        TransferSyntaxUID SamplesPerPixel PhotometricInterpretation Rows Columns
        BitsAllocated BitsStored HighBit PixelRepresentation PlanarConfiguration
        PixelAspectRatio ICCProfile
    """,
    "colorLookupTable": """
        RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
        BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData
        GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
    """,
}

INSTANCE: Final = """
    SOPInstanceUID InstanceNumber MediaStorageSOPInstanceUID
    ImagePositionPatient SliceLocation ImageIndex SmallestImagePixelValue LargestImagePixelValue
    InConcatenationNumber ConcatenationFrameOffsetNumber
    PixelData FloatPixelData DoubleFloatPixelData PixelDataProviderURL
    ExtendedOffsetTable ExtendedOffsetTableLengths EncapsulatedPixelDataValueTotalLength
    IconImageSequence SpectroscopyData PerFrameFunctionalGroupsSequence WaveformSequence
    ContentSequence EncapsulatedDocument EncapsulatedDocumentLength
    DigitalSignaturesSequence DataSetTrailingPadding
"""


class Family(NamedTuple):
    """Modules of PS3.3 that make one group; the first section named is the one it is called by."""

    name: str
    source: str
    modules: str
    also: str = ""
    """Attributes of several modalities, or of a macro, that would fall to a module by chance."""


FAMILIES: Final = (
    Family("sopCommon", "PS3.3 C.12.1", "sop-common timezone"),
    Family("patientModule", "PS3.3 C.7.1.1", "patient"),
    Family("clinicalTrialSubjectModule", "PS3.3 C.7.1.3", "clinical-trial-subject"),
    Family("generalStudyModule", "PS3.3 C.7.2.1", "general-study"),
    Family("patientStudyModule", "PS3.3 C.7.2.2", "patient-study"),
    Family("clinicalTrialStudyModule", "PS3.3 C.7.2.3", "clinical-trial-study"),
    Family("generalSeriesModule", "PS3.3 C.7.3.1", "general-series enhanced-series"),
    Family("clinicalTrialSeriesModule", "PS3.3 C.7.3.2", "clinical-trial-series"),
    Family("synchronizationModule", "PS3.3 C.7.4.2", "synchronization"),
    Family(
        "generalEquipmentModule", "PS3.3 C.7.5.1", "general-equipment enhanced-general-equipment"
    ),
    Family(
        "generalAcquisition",
        "PS3.3 C.7.10.1",
        "general-acquisition",
        also="ScanOptions ReconstructionDiameter",
    ),
    Family("generalImageModule", "PS3.3 C.7.6.1", "general-image image-plane"),
    Family(
        "imagePixelModule",
        "PS3.3 C.7.6.3",
        "image-pixel floating-point-image-pixel double-floating-point-image-pixel icc-profile",
    ),
    Family(
        "paletteColorLookupTable",
        "PS3.3 C.7.9",
        """palette-color-lookup-table supplemental-palette-color-lookup-table
        enhanced-palette-color-lookup-table""",
    ),
    Family(
        "generalReference",
        "PS3.3 C.12.4",
        "general-reference common-instance-reference",
        also="ReferencedRawDataSequence",
    ),
    Family(
        "multiFrame",
        "PS3.3 C.7.6.6",
        """multi-frame multi-frame-functional-groups multi-frame-dimension real-time-acquisition
        frame-extraction""",
    ),
    Family("cine", "PS3.3 C.7.6.5", "cine frame-pointers mask"),
    Family("acquisitionContext", "PS3.3 C.7.6.14", "acquisition-context device intervention"),
    Family("specimen", "PS3.3 C.7.6.22", "specimen"),
    Family("contrastBolus", "PS3.3 C.7.6.4", "contrast-bolus enhanced-contrast-bolus"),
    Family("modalityLut", "PS3.3 C.11.1", "modality-lut variable-modality-lut"),
    Family("voiLut", "PS3.3 C.11.2", "voi-lut image-histogram"),
    Family("overlayPlane", "PS3.3 C.9.2", "overlay-plane multi-frame-overlay"),
    Family("displayShutter", "PS3.3 C.7.6.11", "display-shutter bitmap-display-shutter"),
    Family(
        "cardiacSynchronization",
        "PS3.3 C.7.6.18.1",
        "cardiac-synchronization",
        also="HeartRate TriggerTime",
    ),
    Family(
        "respiratorySynchronization",
        "PS3.3 C.7.6.18.2",
        "respiratory-synchronization bulk-motion-synchronization",
    ),
    Family(
        "patientOrientation",
        "PS3.3 C.7.6.20",
        """patient-orientation enhanced-patient-orientation nm-pet-patient-orientation
        image---equipment-coordinate-relationship""",
    ),
    Family(
        "contentIdentification",
        "PS3.3 10.9",
        "",
        also="""ContentLabel ContentDescription AlternateContentDescriptionSequence
        ContentCreatorName ContentCreatorIdentificationCodeSequence""",
    ),
    Family(
        "xRayGeneration",
        "PS3.3 C.8.7.9",
        "x-ray-generation x-ray-filtration x-ray-grid",
        also="GeneratorPower",
    ),
    Family(
        "xRayPositioner",
        "PS3.3 C.8.7.5",
        "xa-positioner xrf-positioner dx-positioning x-ray-table x-ray-tomography-acquisition",
    ),
    Family("xRayCollimator", "PS3.3 C.8.7.3", "x-ray-collimator"),
    Family("xRayAcquisitionDose", "PS3.3 C.8.7.8", "x-ray-acquisition-dose"),
    Family("dxDetector", "PS3.3 C.8.11.4", "dx-detector x-ray-detector x-ray-image-intensifier"),
    Family(
        "xRayImage",
        "PS3.3 C.8.7.1",
        "x-ray-image x-ray-acquisition dx-image dx-series dx-anatomy-imaged",
    ),
    Family(
        "scImage", "PS3.3 C.8.6", "sc-equipment sc-image sc-multi-frame-image sc-multi-frame-vector"
    ),
    Family("structureSet", "PS3.3 C.8.8.5", "structure-set roi-contour rt-roi-observations"),
    Family("rtDose", "PS3.3 C.8.8.3", "rt-dose rt-dvh"),
    Family(
        "rtPlan",
        "PS3.3 C.8.8.9",
        """rt-general-plan rt-series rt-prescription rt-tolerance-tables rt-patient-setup
        rt-fraction-scheme rt-beams rt-brachy-application-setups approval rt-ion-tolerance-tables
        rt-ion-beams rt-beams-delivery-instruction
        rt-brachy-application-setup-delivery-instruction""",
    ),
    Family("rtImage", "PS3.3 C.8.8.2", "rt-image"),
    Family(
        "rtTreatmentRecord",
        "PS3.3 C.8.8.17",
        """rt-general-treatment-record rt-treatment-machine-record measured-dose-reference-record
        calculated-dose-reference-record rt-beams-session-record rt-brachy-session-record
        rt-treatment-summary-record rt-ion-beams-session-record rt-beams-salvage-record
        rt-ion-beams-salvage-record""",
    ),
    Family("ctImage", "PS3.3 C.8.2.1", "ct-image multi-energy-ct-image"),
    Family("mrImage", "PS3.3 C.8.3.1", "mr-image mr-series"),
    Family("petIsotope", "PS3.3 C.8.9.2", "pet-isotope nm-isotope enhanced-pet-isotope"),
    Family("petSeries", "PS3.3 C.8.9.1", "pet-series pet-multi-gated-acquisition"),
    Family("petImage", "PS3.3 C.8.9.4", "pet-image"),
    Family(
        "nmImage",
        "PS3.3 C.8.4.9",
        """nm-image nm-image-pixel nm-multi-frame nm-detector nm-tomo-acquisition
        nm-multi-gated-acquisition nm-phase nm-reconstruction""",
    ),
    Family(
        "usImage",
        "PS3.3 C.8.5.6",
        """us-image us-region-calibration enhanced-us-image enhanced-us-series
        ultrasound-frame-of-reference ivus-image excluded-intervals""",
    ),
    Family("crImage", "PS3.3 C.8.1.2", "cr-image cr-series"),
    Family(
        "mammographyImage",
        "PS3.3 C.8.11.7",
        """mammography-image mammography-series intra-oral-image intra-oral-series breast-view
        enhanced-mammography-image enhanced-mammography-series breast-tomosynthesis-acquisition
        breast-tomosynthesis-contributing-sources""",
    ),
    Family(
        "enhancedImage",
        "PS3.3 C.8.13.1",
        """enhanced-mr-image mr-pulse-sequence ct-series enhanced-ct-image
        enhanced-multi-energy-ct-acquisition enhanced-pet-series enhanced-pet-acquisition
        enhanced-pet-image enhanced-pet-corrections""",
    ),
    Family(
        "mrSpectroscopy",
        "PS3.3 C.8.14.1",
        "mr-spectroscopy mr-spectroscopy-data mr-spectroscopy-pulse-sequence",
    ),
    Family(
        "enhancedXaXrfImage",
        "PS3.3 C.8.19.2",
        """enhanced-xa-xrf-image xa-xrf-series xa-xrf-acquisition xa-xrf-multi-frame-presentation
        x-ray-3d-image x-ray-3d-angiographic-image-contributing-sources
        x-ray-3d-craniofacial-image-contributing-sources x-ray-3d-angiographic-acquisition
        x-ray-3d-craniofacial-acquisition x-ray-3d-reconstruction""",
    ),
    Family(
        "srDocument",
        "PS3.3 C.17.2",
        """sr-document-general sr-document-series key-object-document
        key-object-document-series""",
    ),
    Family("srDocumentContent", "PS3.3 C.17.3", "sr-document-content"),
    Family("vlImage", "PS3.3 C.8.12.1", "vl-image vl-photographic-equipment"),
    Family("vlPhotographicAcquisition", "PS3.3 C.8.12.11", "vl-photographic-acquisition"),
    Family("vlPhotographicGeolocation", "PS3.3 C.8.12.12", "vl-photographic-geolocation"),
    Family(
        "wholeSlideMicroscopyImage",
        "PS3.3 C.8.12.4",
        """whole-slide-microscopy-image whole-slide-microscopy-series optical-path slide-label
        slide-coordinates microscope-slide-layer-tile-organization multi-resolution-pyramid
        microscopy-bulk-simple-annotations microscopy-bulk-simple-annotations-series""",
    ),
    Family(
        "confocalMicroscopyImage",
        "PS3.3 Confocal Microscopy Image Module",
        """confocal-microscopy-image confocal-microscopy-tiled-pyramidal-image dermoscopic-image
        cutaneous-confocal-microscopy-image-acquisition-parameters""",
    ),
    Family(
        "photoacousticImage",
        "PS3.3 Photoacoustic Image Module",
        """photoacoustic-image photoacoustic-acquisition-parameters photoacoustic-reconstruction
        photoacoustic-transducer""",
    ),
    Family(
        "ophthalmicPhotographyImage",
        "PS3.3 C.8.17.2",
        """ophthalmic-photography-image ophthalmic-photography-series ocular-region-imaged
        ophthalmic-photographic-parameters ophthalmic-photography-acquisition-parameters
        wide-field-ophthalmic-photography-stereographic-projection
        wide-field-ophthalmic-photography-3d-coordinates
        wide-field-ophthalmic-photography-quality-rating
        stereometric-series stereometric-relationship""",
    ),
    Family(
        "ophthalmicTomographyImage",
        "PS3.3 C.8.17.7",
        """ophthalmic-tomography-image ophthalmic-tomography-series
        ophthalmic-tomography-parameters ophthalmic-tomography-acquisition-parameters
        ophthalmic-tomography-en-face-series ophthalmic-tomography-b-scan-volume-analysis-series
        ophthalmic-optical-coherence-tomography-en-face-image
        ophthalmic-optical-coherence-tomography-en-face-image-quality-rating
        ophthalmic-optical-coherence-tomography-b-scan-volume-analysis-image""",
    ),
    Family(
        "ophthalmicMeasurements",
        "PS3.3 C.8.25",
        """general-ophthalmic-refractive-measurements lensometry-measurements
        lensometry-measurements-series autorefraction-measurements
        autorefraction-measurements-series keratometry-measurements
        keratometry-measurements-series subjective-refraction-measurements
        subjective-refraction-measurements-series visual-acuity-measurements
        visual-acuity-measurements-series ophthalmic-axial-measurements
        ophthalmic-axial-measurements-series intraocular-lens-calculations
        intraocular-lens-calculations-series""",
    ),
    Family(
        "ophthalmicMap",
        "PS3.3 C.8.28.2",
        """ophthalmic-thickness-map ophthalmic-thickness-map-series
        ophthalmic-thickness-map-quality-rating corneal-topography-map-image
        corneal-topography-map-series corneal-topography-map-analysis""",
    ),
    Family(
        "visualFieldStaticPerimetry",
        "PS3.3 C.8.26",
        """visual-field-static-perimetry-measurements-series
        visual-field-static-perimetry-test-parameters visual-field-static-perimetry-test-reliability
        visual-field-static-perimetry-test-measurements visual-field-static-perimetry-test-results
        ophthalmic-patient-clinical-information-and-test-lens-parameters""",
    ),
    Family(
        "intravascularOctImage",
        "PS3.3 C.8.27.2",
        """intravascular-oct-image intravascular-oct-series
        intravascular-oct-acquisition-parameters intravascular-oct-processing-parameters
        intravascular-image-acquisition-parameters""",
    ),
    Family(
        "surfaceScan",
        "PS3.3 C.8.29",
        "scan-procedure optical-surface-scanner-series surface-mesh point-cloud uv-mapping",
    ),
    Family(
        "segmentationImage",
        "PS3.3 C.8.20.2",
        """segmentation-image segmentation-series surface-segmentation
        height-map-segmentation-image""",
    ),
    Family(
        "spatialRegistration",
        "PS3.3 C.20.2",
        """spatial-registration spatial-registration-series deformable-spatial-registration
        spatial-fiducials spatial-fiducials-series""",
    ),
    Family(
        "rtRadiation",
        "PS3.3 C.36",
        """enhanced-rt-series radiotherapy-common-instance rt-physician-intent
        rt-enhanced-prescription rt-treatment-phase-intent rt-segment-annotation segment-reference
        rt-radiation-set rt-dose-contribution rt-delivery-device-common rt-radiation-common
        c-arm-photon-electron-delivery-device c-arm-photon-electron-beam
        tomotherapeutic-delivery-device tomotherapeutic-beam robotic-arm-delivery-device
        robotic-arm-path rt-radiation-record-common rt-radiation-record-set
        rt-radiation-salvage-record rt-dose-contribution-record
        rt-radiation-set-delivery-instruction rt-treatment-preparation
        rt-patient-position-acquisition-device rt-patient-position-acquisition-instruction
        enhanced-rt-image enhanced-rt-image-device""",
    ),
    Family(
        "encapsulatedDocument",
        "PS3.3 C.24.2",
        "encapsulated-document encapsulated-document-series manufacturing-3d-model",
    ),
    Family("waveform", "PS3.3 C.10.9", "waveform waveform-identification waveform-annotation"),
    Family(
        "presentationState",
        "PS3.3 C.11.10",
        """presentation-state-identification presentation-state-relationship presentation-series
        presentation-state-shutter presentation-state-mask presentation-state-blending
        presentation-lut softcopy-presentation-lut softcopy-voi-lut overlay-activation
        displayed-area graphic-annotation graphic-layer graphic-group spatial-transformation
        advanced-blending-presentation-state advanced-blending-presentation-state-display
        xa-xrf-presentation-state-mask xa-xrf-presentation-state-shutter
        xa-xrf-presentation-state-presentation presentation-view-description
        presentation-animation""",
    ),
    Family(
        "volumetricPresentationState",
        "PS3.3 C.11.22",
        """volumetric-presentation-state-identification volumetric-presentation-state-relationship
        volumetric-graphic-annotation volume-cropping volume-render-geometry render-shading
        render-display multi-planar-reconstruction-geometry
        mpr-volumetric-presentation-state-display""",
    ),
    Family(
        "structuredDisplay",
        "PS3.3 C.11.16",
        "structured-display structured-display-image-box structured-display-annotation",
    ),
    Family(
        "hangingProtocol",
        "PS3.3 C.23",
        "hanging-protocol-definition hanging-protocol-environment hanging-protocol-display",
    ),
    Family(
        "implantTemplate",
        "PS3.3 C.29",
        """generic-implant-template-description generic-implant-template-2d-drawings
        generic-implant-template-3d-models generic-implant-template-mating-features
        generic-implant-template-planning-landmarks implant-assembly-template
        implant-template-group""",
    ),
    Family(
        "protocolContext",
        "PS3.3 C.34.2",
        """protocol-context ct-protocol-series xa-protocol-series patient-protocol-context
        clinical-trial-context patient-specification equipment-specification instructions
        patient-positioning general-defined-acquisition performed-ct-acquisition
        performed-xa-acquisition general-defined-reconstruction performed-ct-reconstruction
        performed-xa-reconstruction defined-storage performed-storage protocol-approval""",
    ),
    Family("contentAssessmentResults", "PS3.3 C.33.1", "content-assessment-results"),
    Family("inventory", "PS3.3 Inventory Module", "inventory inventory-creation"),
    Family("fileSet", "PS3.3 F.3.2", "file-set-identification directory-information"),
    Family(
        "imagingServiceRequest",
        "PS3.3 C.4.12",
        "scheduled-procedure-step requested-procedure imaging-service-request",
    ),
    Family(
        "performedProcedureStep",
        "PS3.3 C.4.14",
        """performed-procedure-step-relationship performed-procedure-step-information
        image-acquisition-results billing-and-material-management-code
        instance-availability-notification""",
    ),
    Family(
        "patientDemographic",
        "PS3.3 C.2.3",
        "patient-demographic patient-identification patient-medical patient-relationship",
    ),
    Family(
        "visit", "PS3.3 C.3", "visit-identification visit-status visit-admission visit-relationship"
    ),
    Family(
        "unifiedProcedureStep",
        "PS3.3 C.30",
        """unified-procedure-step-progress-information
        unified-procedure-step-scheduled-procedure-information
        unified-procedure-step-performed-procedure-information
        unified-procedure-step-relationship""",
    ),
    Family(
        "printManagement",
        "PS3.3 C.13",
        """basic-film-session-presentation basic-film-session-relationship
        basic-film-box-presentation basic-film-box-relationship image-box-pixel-presentation
        basic-annotation-presentation print-job printer printer-configuration""",
    ),
    Family("storageCommitment", "PS3.3 C.14", "storage-commitment media-creation-management"),
    Family(
        "substanceAdministration",
        "PS3.3 C.26",
        """product-characteristics substance-approval substance-administration
        substance-administration-log""",
    ),
    Family(
        "displaySystem",
        "PS3.3 C.32",
        "display-system target-luminance-characteristics qa-results",
    ),
    Family(
        "rtMachineVerification",
        "PS3.3 C.31",
        """rt-general-machine-verification rt-conventional-machine-verification
        rt-ion-machine-verification""",
    ),
)

RULES: Final = (
    ("other", "every other attribute of an even group number"),
    ("private", "every attribute of an odd group number, private creators included"),
    ("raw", "bytes of values that are not given back by encoding the value (spec/record.md)"),
    ("encoding", "how the file was written, beside its values (spec/p10.md)"),
)


class Group(NamedTuple):
    """One attribute group as it is written to groups.json."""

    name: str
    kind: str
    source: str
    modules: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()


def dictionary() -> str:
    """dictionary.json: the rows of PS3.6 and of PS3.7 group 0000 that pydicom has, by tag.

    Left out are the three delimiters of group FFFE, which are not attributes but the encoding.
    """
    tables: tuple[tuple[str, tuple[str, str, str, str, str]], ...] = (
        *((f"{tag:08X}", row) for tag, row in DicomDictionary.items() if tag >> 16 != 0xFFFE),
        *RepeatersDictionary.items(),
    )
    rows = [
        [tag, vr, vm, keyword, name, retired == "Retired"]
        for tag, (vr, vm, name, retired, keyword) in sorted(tables)
    ]
    source = f"DICOM PS3.6 and PS3.7 {EDITION}, from the dictionary of pydicom {PYDICOM_VERSION}"
    columns = ["tag", "vr", "vm", "keyword", "name", "retired"]
    return _document({"edition": EDITION, "source": source, "columns": columns}, "attributes", rows)


def groups(modules: Mapping[str, list[str]]) -> str:
    """groups.json: the seed's groups, the modules' and those by rule; and what is in none."""
    seeds = [
        Group(name, "seed", "dicom-study-builder-js", (), tuple(attributes.split()))
        for name, attributes in SEED_GROUPS.items()
    ]
    tags = {row[4]: tag for tag, row in DicomDictionary.items()}
    tags |= {row[4]: int(tag.replace("x", "0"), 16) for tag, row in RepeatersDictionary.items()}
    taken = {keyword for group in seeds for keyword in group.attributes} | set(INSTANCE.split())
    meta = [k for k, tag in tags.items() if tag >> 16 == 2 and k not in taken]
    ours = [
        Group("fileMeta", "module", "PS3.10 7.1", (), tuple(sorted(meta, key=tags.__getitem__)))
    ]
    ours += _module_groups(modules, taken | set(meta), tags)
    rules = [Group(name, "rule", rule) for name, rule in RULES]
    header = {
        "edition": EDITION,
        "source": "tests/make_formats.py, which names the sources and the rule",
        "instance": INSTANCE.split(),
    }
    return _document(header, "groups", [group._asdict() for group in (*seeds, *ours, *rules)])


def _module_groups(
    modules: Mapping[str, list[str]], taken: set[str], tags: Mapping[str, int]
) -> Iterator[Group]:
    seen = set(taken)
    for name, source, keys, also in FAMILIES:
        held = set(also.split()).union(*(modules[key] for key in keys.split()))
        attributes = tuple(sorted(held - seen, key=tags.__getitem__))
        if len(attributes) < SMALLEST:
            sys.exit(f"{name} would have {len(attributes)} attributes: leave them to another group")
        seen |= held
        yield Group(name, "module", source, tuple(keys.split()), attributes)


def order() -> str:
    """order.json: the attributes that lead; all others follow in ascending order of their tags."""
    first = ["SOPInstanceUID", "InstanceNumber"]
    for attributes in SEED_GROUPS.values():
        first += [keyword for keyword in attributes.split() if keyword not in first]
    return _document({"edition": EDITION, "then": "ascending tag"}, "first", first)


def manifest(folder: Path) -> str:
    """manifest.json: size and SHA-256 of every other JSON file in the folder."""
    files = {
        path.name: {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in sorted(folder.glob("*.json"))
        if path.name != "manifest.json"
    }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in files.items())
    head = f'"version": {json.dumps(VERSION)},\n"edition": {json.dumps(EDITION)}'
    return f'{{\n{head},\n"files": {{\n{lines}\n}}\n}}\n'


def read_modules(wheel: Path) -> dict[str, list[str]]:
    """The top-level attributes of each module, in the order of the wheel's table.

    The functional groups modules of the single IODs become the one of C.7.6.16.
    """
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
        sys.exit(f"{wheel} is not the highdicom 0.28.2 wheel that these definitions are made from")
    with zipfile.ZipFile(wheel) as archive:
        table = json.loads(archive.read("highdicom/_standard/module_attribute_map.json"))
    modules: dict[str, list[str]] = {}
    suffix = "multi-frame-functional-groups"
    for key, rows in table.items():
        home = modules.setdefault(suffix if key.endswith(suffix) else key, [])
        home += [r["keyword"] for r in rows if not r["path"] and r["keyword"] not in home]
    return modules


def _document(header: Mapping[str, object], key: str, rows: Iterable[object]) -> str:
    """JSON with one attribute a line, so that a difference can be read."""
    lines = [f"{json.dumps(name)}: {''.join(_value(value))}," for name, value in header.items()]
    body = ",\n".join("".join(_value(row)) for row in rows)
    return "\n".join(["{", *lines, f"{json.dumps(key)}: [", body, "]", "}"]) + "\n"


def _value(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        attributes = value["attributes"]
        rest = {name: item for name, item in value.items() if name != "attributes"}
        yield json.dumps(rest)[:-1] + ', "attributes": ['
        yield ",".join(f"\n  {json.dumps(keyword)}" for keyword in attributes)
        yield "]}"
    else:
        yield json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Write the four files."""
    parser = argparse.ArgumentParser(description="Write formats/v1 anew.")
    parser.add_argument("wheel", type=Path, help="highdicom-0.28.2-py3-none-any.whl")
    default = Path(__file__).parents[1] / "formats" / f"v{VERSION}"
    parser.add_argument("--into", type=Path, default=default)
    arguments = parser.parse_args()
    folder: Path = arguments.into
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("dictionary.json", dictionary()),
        ("groups.json", groups(read_modules(arguments.wheel))),
        ("order.json", order()),
    ):
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    (folder / "manifest.json").write_text(manifest(folder), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
