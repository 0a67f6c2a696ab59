from .flagged import flagged_picture as flagged_picture
from .writer import GalleryOptions as GalleryOptions
from .writer import Written as Written
from .writer import write_gallery as write_gallery
