"""From folders of images to batches of pixels: finding, splitting, checking, decoding, reading."""

from zoo.data.augment import augment_batch, permutation, uniforms
from zoo.data.batches import ImageBatches, evaluation_steps, training_steps
from zoo.data.checks import Finding, check_images, leave_out
from zoo.data.decode import decode, read_image_file
from zoo.data.discovery import find_images, find_images_to_predict
from zoo.data.images import ImageData, ImageSet, Label
from zoo.data.reader import BadImage, ImageReader, Request, Scan, available_processors
from zoo.data.sound import SoundImages
from zoo.data.splits import fingerprint, split_images
from zoo.data.transforms import Transform, normalise, to_batch

__all__ = [
    "BadImage",
    "Finding",
    "ImageBatches",
    "ImageData",
    "ImageReader",
    "ImageSet",
    "Label",
    "Request",
    "Scan",
    "SoundImages",
    "Transform",
    "augment_batch",
    "available_processors",
    "check_images",
    "decode",
    "evaluation_steps",
    "find_images",
    "find_images_to_predict",
    "fingerprint",
    "leave_out",
    "normalise",
    "permutation",
    "read_image_file",
    "split_images",
    "to_batch",
    "training_steps",
    "uniforms",
]
