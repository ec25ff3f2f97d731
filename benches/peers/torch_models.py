"""The backbones, global average pooling included, with random weights."""
import torch
import torchvision


class Pooled(torch.nn.Module):
    """A stack of layers and the mean over height and width."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x).mean((2, 3))


def backbone(name):
    if name == "xception":
        import timm

        return timm.create_model("legacy_xception", num_classes=0, global_pool="avg")
    if name == "inception_v3":
        model = torchvision.models.inception_v3(aux_logits=False, init_weights=False)
        model.fc = torch.nn.Identity()
        return model
    model = getattr(torchvision.models, name)()
    if name == "resnet50":
        return Pooled(*list(model.children())[:-2])
    return Pooled(model.features)


def prepared(name, side):
    """In eval mode and channels_last. Batch norm has seen a batch, so that activations keep the
    scale that they have in a trained network."""
    torch.manual_seed(0)
    model = backbone(name).to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(pictures(8, side))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
    return model.eval()


def pictures(count, side):
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(count, 3, side, side, generator=generator) * 2 - 1
    return batch.to(memory_format=torch.channels_last)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())
