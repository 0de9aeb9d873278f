"""The mathematics of diffusers' AutoencoderKLCogVideoX for clips of one chunk, arranged for a CPU.

encode() and decode() use the module's own parameters.  A causal 3x3x3 convolution becomes a 2-D one over three frames'
channels side by side; the condition of the decoder's norms is convolved at the latent's resolution and then repeated.
Convolutions named in spatial_only() look at one frame: their taps of earlier frames are zero and stay so.
check() compares both with the module itself."""
import torch
import torch.nn.functional as F


def spatial_only(name):
    """Whether the convolution's earlier taps are zero: the costly ones at full and half resolution."""
    if ".conv_y" in name or ".conv_b" in name or "conv_shortcut" in name:
        return False
    return (name.startswith("encoder.down_blocks.0.resnets") or name.startswith("decoder.up_blocks.3") or
            name.startswith("decoder.conv_out") or
            (name.startswith("decoder.up_blocks.2.resnets") and "conv2" in name) or
            (name.startswith("encoder.down_blocks.1.resnets") and "conv2" in name))


def zero_earlier_taps(vae):
    with torch.no_grad():
        for name, m in vae.named_modules():
            if isinstance(m, torch.nn.Conv3d) and m.weight.shape[2] == 3 and spatial_only(name):
                m.weight[:, :, :2] = 0


class GroupNorm(torch.autograd.Function):
    """F.group_norm on [B,C,H,W], channels last; its backward pass in bfloat16 sums by matrix products (the library's
    own is several times as slow there)."""

    @staticmethod
    def forward(ctx, x, groups, weight, bias, eps):
        y, mean, rstd = torch.native_group_norm(x, weight.to(x.dtype), bias.to(x.dtype), x.shape[0], x.shape[1],
                                                x.shape[2] * x.shape[3], groups, eps)
        ctx.save_for_backward(x, weight, mean.float(), rstd.float())
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, mean, rstd = ctx.saved_tensors
        b, c, h, w = x.shape
        g, k = ctx.groups, c // ctx.groups
        xv = x.permute(0, 2, 3, 1).reshape(b * h, w, c)
        dv = dy.permute(0, 2, 3, 1).reshape(b * h, w, c)
        ones = torch.ones(b * h, 1, w, dtype=x.dtype)
        s1 = torch.bmm(ones, dv).float().reshape(b, h, c).sum(1)
        s2 = torch.bmm(ones, dv * xv).float().reshape(b, h, c).sum(1)
        mu, rs = mean.repeat_interleave(k, 1), rstd.repeat_interleave(k, 1)
        s2 = (s2 - mu * s1) * rs  # sum of dy * x_hat
        m1 = (s1 * weight).reshape(b, g, k).sum(2).repeat_interleave(k, 1) / (k * h * w)
        m2 = (s2 * weight).reshape(b, g, k).sum(2).repeat_interleave(k, 1) / (k * h * w)
        # dx = rs (w dy - m1 - (x - mu) rs m2)
        add = (rs * (mu * rs * m2 - m1)).to(x.dtype)[:, :, None, None]
        dx = torch.addcmul(torch.addcmul(add, x, (-rs * rs * m2).to(x.dtype)[:, :, None, None]), dy,
                           (rs * weight).to(x.dtype)[:, :, None, None])
        return dx, None, s2.sum(0), s1.sum(0), None


class Fast:
    def __init__(self, vae):
        self.vae = vae
        self.names = {id(m): n for n, m in vae.named_modules()}

    def conv(self, m, x, b):
        """A CogVideoXCausalConv3d (or its inner convolution) on x [B*T,C,H,W]."""
        m = getattr(m, "conv", m)
        w, bias = m.weight.to(x.dtype), m.bias.to(x.dtype)
        if w.shape[2] == 1:
            return F.conv2d(x, w[:, :, 0], bias)
        if spatial_only(self.names[id(m)]):
            return F.conv2d(x, w[:, :, 2].contiguous(memory_format=torch.channels_last), bias, padding=1)
        n, c, h, wd = x.shape
        t = n // b
        if t == 1:  # all three frames are this one
            return F.conv2d(x, w.sum(2).contiguous(memory_format=torch.channels_last), bias, padding=1)
        v = x.permute(0, 2, 3, 1).reshape(b, t, h, wd, c)
        first = v[:, :1]
        p1 = torch.cat([first, v[:, :-1]], 1)
        p2 = torch.cat([first, p1[:, :-1]], 1)
        y = torch.cat([p2, p1, v], -1).reshape(n, h, wd, 3 * c).permute(0, 3, 1, 2)
        k = w.permute(0, 2, 1, 3, 4).reshape(w.shape[0], 3 * c, 3, 3).contiguous(memory_format=torch.channels_last)
        return F.conv2d(y, k, bias, padding=1)

    def norm(self, m, x, b, z=None, act=True):
        """Group norm over the chunk, the condition z [B,Tz,h,w,L] where given, then SiLU."""
        g = getattr(m, "norm_layer", m)
        n, c, h, w = x.shape
        t = n // b
        v = x.permute(0, 2, 3, 1).reshape(b, t * h, w, c).permute(0, 3, 1, 2)  # a clip as one tall picture
        v = GroupNorm.apply(v, g.num_groups, g.weight, g.bias, g.eps)
        v = v.permute(0, 2, 3, 1).reshape(n, h, w, c).permute(0, 3, 1, 2)
        if z is None:
            return F.silu(v)
        y, o = (self.spread(F.linear(z, k.conv.weight[:, :, 0, 0, 0].to(z.dtype), k.conv.bias.to(z.dtype)), t, h, w)
                for k in (m.conv_y, m.conv_b))
        return F.silu(torch.addcmul(o, v, y))

    @staticmethod
    def spread(z, t, h, w):
        """[B,Tz,zh,zw,C] at the nearest index of [B*t,C,h,w]."""
        b, zt, zh, zw, c = z.shape
        if t != zt:
            z = torch.cat([z[:, :1], z[:, 1:].repeat_interleave((t - 1) // (zt - 1), 1)], 1)
        z = z.reshape(b * t, zh, zw, c).permute(0, 3, 1, 2)
        return z if (h, w) == (zh, zw) else F.interpolate(z, size=(h, w))

    def res(self, m, x, b, z=None):
        y = self.conv(m.conv1, self.norm(m.norm1, x, b, z), b)
        y = self.conv(m.conv2, self.norm(m.norm2, y, b, z), b)
        return y + (self.conv(m.conv_shortcut, x, b) if m.in_channels != m.out_channels else x)

    def encode(self, clip, dtype):
        """clip [B,T,H,W,3] in -1..1, odd T -> moments [B,Tz,h,w,2L] in float32."""
        b, t, h, w, c = clip.shape
        e = self.vae.encoder
        x = self.conv(e.conv_in, clip.to(dtype).reshape(b * t, h, w, c).permute(0, 3, 1, 2), b)
        for block in e.down_blocks:
            for r in block.resnets:
                x = self.res(r, x, b)
            if block.downsamplers is None:
                continue
            d = block.downsamplers[0]
            if d.compress_time and len(x) > b:
                v = x.permute(0, 2, 3, 1)
                v = v.reshape(b, -1, *v.shape[1:])
                v = torch.cat([v[:, :1], (v[:, 1::2] + v[:, 2::2]) * 0.5], 1)
                x = v.reshape(-1, *v.shape[2:]).permute(0, 3, 1, 2)
            x = F.conv2d(F.pad(x, (0, 1, 0, 1)), d.conv.weight.to(dtype), d.conv.bias.to(dtype), stride=2)
        for r in e.mid_block.resnets:
            x = self.res(r, x, b)
        x = self.conv(e.conv_out, self.norm(e.norm_out, x, b), b)
        v = x.permute(0, 2, 3, 1).float()
        return v.reshape(b, -1, *v.shape[1:])

    def decode(self, z, dtype):
        """z [B,Tz,h,w,L] -> clip [B,T,H,W,3] in float32, odd Tz."""
        b, t, h, w, c = z.shape
        z = z.to(dtype)
        d = self.vae.decoder
        x = self.conv(d.conv_in, z.reshape(b * t, h, w, c).permute(0, 3, 1, 2), b)
        for r in d.mid_block.resnets:
            x = self.res(r, x, b, z)
        for block in d.up_blocks:
            for r in block.resnets:
                x = self.res(r, x, b, z)
            if block.upsamplers is None:
                continue
            u = block.upsamplers[0]
            v = F.interpolate(x, scale_factor=2)  # the convolution then runs once for a doubled frame
            x = F.conv2d(v, u.conv.weight.to(dtype).contiguous(memory_format=torch.channels_last),
                         u.conv.bias.to(dtype), padding=1)
            if u.compress_time and len(x) > b:
                v = x.permute(0, 2, 3, 1)
                v = v.reshape(b, -1, *v.shape[1:])
                v = torch.cat([v[:, :1], v[:, 1:].repeat_interleave(2, 1)], 1)
                x = v.reshape(-1, *v.shape[2:]).permute(0, 3, 1, 2)
        x = self.conv(d.conv_out, self.norm(d.norm_out, x, b, z), b)
        v = x.permute(0, 2, 3, 1).float()
        return v.reshape(b, -1, *v.shape[1:])


def check(vae, clip):
    """The largest difference of encode() and decode() from the module's own result, in float32."""
    with torch.no_grad():
        fast = Fast(vae)
        own = vae.encoder(clip.permute(0, 4, 1, 2, 3))[0].permute(0, 2, 3, 4, 1)
        got = fast.encode(clip, torch.float32)
        z = own[..., :own.shape[-1] // 2].contiguous()
        ours = fast.decode(z, torch.float32)
        theirs = vae.decoder(z.permute(0, 4, 1, 2, 3))[0].permute(0, 2, 3, 4, 1)
        return float((own - got).abs().max()), float((ours - theirs).abs().max()), float(own.abs().max()), \
            float(theirs.abs().max())
