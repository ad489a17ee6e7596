"""What det-datasets provides."""

from __future__ import annotations

from detkit.plugins import Component, hookimpl


@hookimpl
def detkit_components() -> list[Component]:
    return [
        Component(
            kind="dataset",
            name="coco",
            target="det_datasets.coco.dataset:CocoDataset",
            summary="COCO JSON: boxes, polygons, RLE, crowds, keypoints",
        ),
        Component(
            kind="dataset",
            name="coco-panoptic",
            target="det_datasets.panoptic.dataset:CocoPanopticDataset",
            summary="COCO's panoptic JSON and PNG: every pixel belongs to a thing or to stuff",
        ),
        Component(
            kind="dataset",
            name="ade20k",
            target="det_datasets.ade20k.dataset:Ade20kDataset",
            summary="ADE20K's scene parsing: 150 classes of pixels",
        ),
        Component(
            kind="dataset",
            name="ade20k-panoptic",
            target="det_datasets.ade20k.dataset:Ade20kPanopticDataset",
            summary="ADE20K with panoptic files as Mask2Former prepares them",
        ),
        Component(
            kind="dataset",
            name="coco-stuff",
            target="det_datasets.semantic.coco_stuff:CocoStuffDataset",
            summary="COCO's stuff: 92 classes of pixels",
        ),
        Component(
            kind="dataset",
            name="cityscapes",
            target="det_datasets.cityscapes.dataset:CityscapesDataset",
            summary="Cityscapes' fine annotations: objects, groups, labels of pixels, panoptic segments",
        ),
        Component(
            kind="dataset",
            name="voc",
            target="det_datasets.voc.dataset:VocDataset",
            summary="PASCAL VOC's XML: boxes, difficult objects, masks",
        ),
        Component(
            kind="dataset",
            name="yolo",
            target="det_datasets.yolo.dataset:YoloDataset",
            summary="YOLO's text files: boxes, outlines, keypoints, oriented boxes",
        ),
        Component(
            kind="dataset",
            name="lvis",
            target="det_datasets.lvis.dataset:LvisDataset",
            summary="LVIS: 1,203 classes of objects in COCO's images, also as COCO's 80",
        ),
        Component(
            kind="dataset",
            name="objects365",
            target="det_datasets.objects365.dataset:Objects365Dataset",
            summary="Objects365: boxes of 365 classes",
        ),
        Component(
            kind="dataset_writer",
            name="coco",
            target="det_datasets.coco.write:CocoWriter",
            summary="COCO JSON: boxes, polygons, RLE, crowds, keypoints, labels of pixels",
        ),
        Component(
            kind="dataset_writer",
            name="coco-panoptic",
            target="det_datasets.panoptic.make:CocoPanopticWriter",
            summary="COCO's panoptic JSON and PNG; instances=true writes objects and stuff apart, too",
        ),
        Component(
            kind="dataset_writer",
            name="coco-stuff",
            target="det_datasets.semantic.make:CocoStuffWriter",
            summary="COCO's stuff: classes of pixels alone",
        ),
        Component(
            kind="dataset_writer",
            name="ade20k",
            target="det_datasets.ade20k.make:Ade20kWriter",
            summary="ADE20K's scene parsing; panoptic=true writes segments, too",
        ),
        Component(
            kind="dataset_writer",
            name="cityscapes",
            target="det_datasets.cityscapes.make:CityscapesWriter",
            summary="Cityscapes' polygons and maps",
        ),
        Component(
            kind="dataset_writer",
            name="voc",
            target="det_datasets.voc.make:VocWriter",
            summary="PASCAL VOC's XML: boxes in whole pixels, masks as pictures",
        ),
        Component(
            kind="dataset_writer",
            name="yolo",
            target="det_datasets.yolo.make:YoloWriter",
            summary="YOLO's text files: boxes, outlines, keypoints or oriented boxes",
        ),
        Component(
            kind="dataset_writer",
            name="dota",
            target="det_datasets.dota.make:DotaWriter",
            summary="DOTA's text files: oriented boxes",
        ),
        Component(
            kind="dataset_writer",
            name="openimages",
            target="det_datasets.openimages.make:OpenImagesWriter",
            summary="OpenImages' CSV files: boxes",
        ),
        Component(
            kind="dataset_writer",
            name="lvis",
            target="det_datasets.lvis.make:LvisWriter",
            summary="LVIS's JSON: masks, with the classes known to be absent",
        ),
        Component(
            kind="dataset_writer",
            name="objects365",
            target="det_datasets.objects365.make:Objects365Writer",
            summary="Objects365's JSON: boxes",
        ),
        Component(
            kind="dataset_writer",
            name="webdataset",
            target="det_datasets.webdataset.writer:WebDatasetWriter",
            summary="tar shards with COCO annotations for each image",
        ),
        Component(
            kind="evaluator",
            name="lvis",
            target="det_datasets.lvis.evaluator:LvisEvaluator",
            summary="AP and AR as LVIS defines them, of rare, common and frequent classes; Fixed AP",
        ),
        Component(
            kind="dataset",
            name="dota",
            target="det_datasets.dota.dataset:DotaDataset",
            summary="DOTA's oriented boxes in aerial images",
        ),
        Component(
            kind="dataset",
            name="openimages",
            target="det_datasets.openimages.dataset:OpenImagesDataset",
            summary="Open Images' CSV files: boxes, groups",
        ),
        Component(
            kind="evaluator",
            name="voc",
            target="det_datasets.voc.evaluator:VocEvaluator",
            summary="AP of boxes as PASCAL VOC defines it, at eleven recalls and below the curve",
        ),
        Component(
            kind="evaluator",
            name="cityscapes-instances",
            target="det_datasets.cityscapes.instances:CityscapesInstanceEvaluator",
            summary="AP of masks as Cityscapes defines it",
        ),
        Component(
            kind="evaluator",
            name="cityscapes-semantic",
            target="det_datasets.cityscapes.pixels:CityscapesSemanticEvaluator",
            summary="IoU and instance-weighted IoU of classes and their groups as Cityscapes defines them",
        ),
        Component(
            kind="dataset",
            name="records",
            target="det_datasets.records.dataset:Records",
            summary="Detectron2's lists of dicts, from Python code",
        ),
        Component(
            kind="dataset",
            name="webdataset",
            target="det_datasets.webdataset.dataset:WebDataset",
            summary="Tar shards in WebDataset's layout, with COCO annotations for each image",
        ),
        Component(
            kind="evaluator",
            name="coco",
            target="det_datasets.coco.evaluator:CocoEvaluator",
            summary="AP and AR of boxes, masks and keypoints as COCO defines them",
        ),
        Component(
            kind="evaluator",
            name="diagnosis",
            target="det_datasets.diagnosis.evaluator:DiagnosisEvaluator",
            summary="Best F1, confusion, kinds of errors, size and crowding, calibration; figures for reports",
        ),
        Component(
            kind="evaluator",
            name="proposals",
            target="det_datasets.coco.proposal_evaluator:ProposalEvaluator",
            summary="Average recall of boxes of any class",
        ),
        Component(
            kind="evaluator",
            name="semantic",
            target="det_datasets.semantic.evaluator:SemanticEvaluator",
            summary="IoU and accuracy of labelled pixels",
        ),
        Component(
            kind="evaluator",
            name="panoptic",
            target="det_datasets.panoptic.evaluator:PanopticEvaluator",
            summary="Panoptic quality: PQ, SQ and RQ of things and stuff",
        ),
        Component(
            kind="command",
            name="data-make-ade20k",
            target="det_datasets.ade20k.command:main",
            summary="a tiny dataset in ADE20K's layout",
        ),
        Component(
            kind="command",
            name="data-make-cityscapes",
            target="det_datasets.cityscapes.command:main",
            summary="a tiny dataset in Cityscapes' layout",
        ),
        Component(
            kind="command",
            name="data-make-coco-panoptic",
            target="det_datasets.panoptic.command:make",
            summary="a tiny dataset in COCO's panoptic layout",
        ),
        Component(
            kind="command",
            name="data-make-coco-stuff",
            target="det_datasets.semantic.command:main",
            summary="a tiny dataset in the layout of COCO's stuff",
        ),
        Component(
            kind="command",
            name="data-make-panoptic-stuff",
            target="det_datasets.panoptic.command:make_stuff",
            summary="labels of pixels for Panoptic FPN, from COCO's panoptic files",
        ),
        Component(
            kind="command",
            name="data-make-yolo",
            target="det_datasets.yolo.command:main",
            summary="a tiny dataset in YOLO's layout",
        ),
        Component(
            kind="command",
            name="data-make-lvis",
            target="det_datasets.lvis.command:main",
            summary="a tiny dataset in LVIS's layout",
        ),
        Component(
            kind="command",
            name="data-make-objects365",
            target="det_datasets.objects365.command:main",
            summary="a tiny dataset in Objects365's layout",
        ),
        Component(
            kind="command",
            name="data-make-dota",
            target="det_datasets.dota.command:main",
            summary="a tiny dataset in DOTA's layout",
        ),
        Component(
            kind="command",
            name="data-make-openimages",
            target="det_datasets.openimages.command:main",
            summary="a tiny dataset in Open Images' layout",
        ),
        Component(
            kind="command",
            name="data-make-voc",
            target="det_datasets.voc.command:main",
            summary="a tiny dataset in PASCAL VOC's layout",
        ),
        Component(
            kind="command",
            name="data-make-shapes",
            target="det_datasets.shapes.command:main",
            summary="a seeded practice dataset of shapes on textured backgrounds",
        ),
        Component(
            kind="command",
            name="data-make-webdataset",
            target="det_datasets.webdataset.command:main",
            summary="a tiny dataset in WebDataset's layout",
        ),
    ]
