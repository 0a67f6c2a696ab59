from .flagged import flagged_picture as flagged_picture
from .writing import GalleryOptions as GalleryOptions
from .writing import Written as Written
from .writing import write_gallery as write_gallery
