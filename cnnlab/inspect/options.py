"""The fields that `--mode=inspect` has beside the experiment's own."""

from ml_collections import ConfigDict


def get_options() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value."""
    options = ConfigDict()
    options.inspect = "augment"  # which figure to draw: a name of `inspection.FIGURES`
    options.pictures = 6  # how many of the test set to look at; --input takes pictures of your own instead
    options.layers = ""  # which layers, by the names that summary prints: "conv5,fc7"; "": those that suit the figure
    options.channels = ""  # which of their feature maps, by number: "3,17"; "": the strongest
    options.labels = ""  # which classes, by name or number: "cat,3"; "": those of the pictures
    options.examples = 1000  # how many of the data set to search or to measure on
    options.occlusion = ConfigDict()  # a square hides each part of a picture in turn
    options.occlusion.size = 0  # of the square, in pixels of the picture; 0: as the paper's, 50 of 224, about
    options.occlusion.stride = 0  # pixels from one square to the next; 0: 8 of 224, in proportion
    options.occlusion.fill = "grey"  # the square's colour; or "mean", the pictures' own; or "0" or "124,116,104", say
    options.adversarial = ConfigDict()  # pictures changed by little, so that the network is wrong
    options.adversarial.attacks = "fgsm,pgd,deepfool,lbfgs"  # which, in turn; there is bim, iterated fgsm, too
    options.adversarial.epsilons = "0.05,0.1,0.15,0.2,0.25,0.3"  # how far fgsm, bim and pgd go; pixels are from 0 to 1
    options.adversarial.norm = "linf"  # what ε bounds: "linf", the greatest change of a pixel, or "l2", their length
    options.adversarial.steps = 40  # of bim and pgd
    options.adversarial.target = ""  # the class to be taken for, by name or number; deepfool has none; "": any other
    options.adversarial.transfer_to = ""  # a workdir: its network is shown what fools this one, and the other way round
    options.correspondence = ConfigDict()  # a part of each picture is hidden, and what that changes compared
    options.correspondence.parts = ""  # "left eye=Y0:X0:Y1:X1;nose=…" in pixels; or a .json file; "": nine equal ones
    options.correspondence.draws = 20  # of random masks, to compare with
    options.correspondence.fill = "grey"  # the masks' colour, as of occlusion
    options.correspondence.seed = 0  # of the random masks
    options.gradients = ConfigDict()  # which pixels decide
    options.gradients.steps = 50  # of integrated gradients, from black to the picture
    options.maximise = ConfigDict()  # pictures that excite a class, or a feature map; the regularisers are the paper's
    options.maximise.steps = 200  # of ascent
    options.maximise.rate = 0.02  # of a step: pixels move by about so much of the way from black to white
    options.maximise.decay = 1e-4  # share by which the picture shrinks towards 0 in a step
    options.maximise.blur_width = 1.0  # of the Gaussian that it is blurred with, in pixels
    options.maximise.blur_every = 4  # steps; 0: never
    options.maximise.norm_percentile = 0.0  # the share of pixels, in percent, that become 0 because they are small
    options.maximise.contribution_percentile = 0.0  # the same because they contribute little
    options.inversion = ConfigDict()  # pictures found again from what a layer makes of them
    options.inversion.steps = 300  # of descent
    options.inversion.norm = 0.01  # weight of the α-norm, which keeps pixels in their range
    options.inversion.variation = 0.1  # weight of the total variation: more blurs, less leaves noise
    options.invariance = ConfigDict()  # the input is moved: what stays of accuracy and of each layer's output
    options.invariance.shifts = "auto"  # in pixels: "1,2,4"; "auto": up to a quarter of the input's side; "": none
    options.invariance.angles = "5,10,15,20,30,45,60,90"  # by which it is turned, in degrees; "": none
    options.invariance.scales = "0.5,0.6,0.75,0.9,1.1,1.3,1.6,2"  # factors by which it is enlarged; "": none
    options.invariance.border = 0.125  # of the input's side: as near to its edge, maps are not compared to moved ones
    return options
