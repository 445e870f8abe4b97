"use strict";
// The flow of Wen and Li's population loss: theory/kernels.py line by line, in the same
// letters. Equation numbers refer to docs/theory.md. `rodas5p` holds the coefficients of
// theory/rodas5p.py. Tables are flat: row r, column s of m columns is at r * m + s.
const kernels = (() => {
  const TINY = 1e-200,
    CLOSE = 1e-12,
    STILL = 1e-20,
    LEARNED = 0.5,
    MAX_STEPS = 5000;
  const REACHED = 0,
    NOT_FINITE = 1,
    STEP_TOO_SMALL = 2,
    TOO_MANY_STEPS = 3;
  const STAGES = 8,
    { GAMMA, A, C } = rodas5p;
  const floats = (size) => new Float64Array(size);

  const size = (k) => k.neurons * (k.features + k.neurons) + k.rows.length;

  // Scratch for one set of constants: `velocity` leaves in it what `velocityJacobian` reads.
  function workspace(k) {
    const m = k.neurons,
      n = size(k),
      wide = m * k.features,
      square = m * m;
    const rows = (names, length) => Object.fromEntries(names.map((name) => [name, floats(length)]));
    return {
      ...rows(["phi", "slope", "U", "Q", "T", "B"], wide),
      ...rows(["E", "R", "K", "EK", "weight", "G"], square),
      ...rows(["S", "VF", "VG", "ownF", "gF", "gG"], m),
      ...rows(["dU", "dB", "dQ", "dT"], wide * n),
      ...rows(["dR", "dK", "dEK", "dG"], square * n),
      ...rows(["dS", "dVF", "dVG", "dOwn", "dgF", "dgG"], m * n),
      moment: floats(3),
      seconds: floats(3),
    };
  }

  // sum_i moments_i a^i b^(h - i) and its derivatives by a and by b, into `out`.
  function moment(k, a, b, out) {
    let value = 0,
      byA = 0,
      byB = 0,
      power = 1,
      before = 0;
    for (let i = 0; i < k.moments.length; i++) {
      byB = byB * b + value;
      byA = byA * b + k.moments[i] * i * before;
      value = value * b + k.moments[i] * power;
      before = power;
      power *= a;
    }
    out[0] = value;
    out[1] = byA;
    out[2] = byB;
  }

  // The second derivatives of `moment`: by a twice, by a and b, by b twice.
  function momentSecondDerivatives(k, a, b, out) {
    const h = k.moments.length - 1;
    out.fill(0);
    for (let i = 0; i <= h; i++) {
      const j = h - i;
      if (i > 1) out[0] += k.moments[i] * i * (i - 1) * a ** (i - 2) * b ** j;
      if (i > 0 && j > 0) out[1] += k.moments[i] * i * j * a ** (i - 1) * b ** (j - 1);
      if (j > 1) out[2] += k.moments[i] * j * (j - 1) * a ** i * b ** (j - 2);
    }
  }

  // dy/dt (eq. 9 to 12) into `out`; returns the loss (eq. 5).
  function velocity(k, y, out, work) {
    const m = k.neurons,
      features = k.features,
      h = (k.power - 1) / 2,
      width = features + m;
    const { phi, slope, U, Q, T, B, E, R, K, EK, weight, G, S, VF, VG, ownF, gF, gG } = work;
    const M = work.moment;
    E.set(k.head);
    for (let e = 0; e < k.rows.length; e++) E[k.rows[e] * m + k.columns[e]] = y[m * width + e];

    for (let r = 0; r < m; r++) {
      for (let f = 0; f < features; f++) {
        const c = y[r * width + f],
          even = c * c;
        let power = even;
        for (let i = 1; i < h; i++) power *= even;
        slope[r * features + f] = k.power * k.signal[f] * power;
        phi[r * features + f] = k.signal[f] * power * c;
      }
      for (let s = 0; s <= r; s++) {
        let dot = 0;
        for (let a = features; a < width; a++) dot += y[r * width + a] * y[s * width + a];
        R[r * m + s] = R[s * m + r] = k.noiseVariance * dot;
      }
    }
    for (let r = 0; r < m; r++) {
      for (let s = 0; s <= r; s++) {
        const R_rs = R[r * m + s];
        moment(k, R[r * m + r] * R[s * m + s], R_rs * R_rs, M);
        K[r * m + s] = K[s * m + r] = R_rs * M[0];
      }
    }

    let loss = 0;
    for (let j = 0; j < m; j++) {
      S[j] = VF[j] = VG[j] = ownF[j] = 0;
      for (let f = 0; f < features; f++) {
        const at = j * features + f;
        let borrowed = 0;
        for (let r = 0; r < m; r++) if (r !== j) borrowed += E[j * m + r] * phi[r * features + f];
        B[at] = borrowed;
        U[at] = borrowed + E[j * m + j] * phi[at];
        S[j] += k.cross * k.weights[f] * U[at] * phi[at];
        VF[j] += k.same * k.weights[f] * U[at] * U[at];
        VG[j] += k.same * k.weights[f] * phi[at] * phi[at];
      }
      for (let s = 0; s < m; s++) {
        let mixed = 0;
        for (let r = 0; r < m; r++) mixed += E[j * m + r] * K[r * m + s];
        EK[j * m + s] = mixed;
        ownF[j] += k.noisePatches * mixed * E[j * m + s];
      }
      const ownG = k.noisePatches * K[j * m + j];
      VF[j] += ownF[j];
      VG[j] += ownG;
      if (k.normalised) {
        const perF = 1 / VF[j],
          perG = 1 / VG[j],
          scale = Math.sqrt(perF * perG);
        loss += 1 - S[j] * scale;
        gF[j] = 0.5 * S[j] * scale * perF;
        gG[j] = 0.5 * S[j] * scale * perG;
        for (let f = 0; f < features; f++) {
          // Eq. 8: the plain form, eq. 7, cancels to rounding noise once a feature is learned.
          const at = j * features + f;
          let q = ownF[j] * phi[at],
            t = ownG * U[at];
          for (let o = 0; o < features; o++) {
            const to = j * features + o,
              minor = B[to] * phi[at] - B[at] * phi[to];
            q += k.same * k.weights[o] * U[to] * minor;
            t -= k.same * k.weights[o] * phi[to] * minor;
          }
          Q[at] = -k.cross * scale * perF * k.weights[f] * q;
          T[at] = -k.cross * scale * perG * k.weights[f] * t;
        }
      } else {
        loss += 0.5 * (VF[j] + VG[j]) - S[j];
        gF[j] = gG[j] = 0.5;
        for (let f = 0; f < features; f++) {
          const at = j * features + f;
          Q[at] = k.weights[f] * (k.same * U[at] - k.cross * phi[at]);
          T[at] = k.weights[f] * (k.same * phi[at] - k.cross * U[at]);
        }
      }
    }

    for (let r = 0; r < m; r++) {
      for (let f = 0; f < features; f++) {
        const at = r * features + f;
        let g = 0;
        for (let j = 0; j < m; j++) g += E[j * m + r] * Q[j * features + f];
        out[r * width + f] = -slope[at] * (k.toOnline * g + k.toTarget * T[at]);
      }
      for (let s = 0; s <= r; s++) {
        let w = 0;
        for (let j = 0; j < m; j++) w += gF[j] * E[j * m + r] * E[j * m + s];
        w *= k.toOnline;
        if (r === s) w += k.toTarget * gG[r];
        weight[r * m + s] = weight[s * m + r] = k.noisePatches * w;
      }
    }
    for (let r = 0; r < m; r++) {
      let own = 0;
      for (let s = 0; s < m; s++) {
        const R_rs = R[r * m + s],
          b = R_rs * R_rs;
        moment(k, R[r * m + r] * R[s * m + s], b, M);
        G[r * m + s] = weight[r * m + s] * (M[0] + 2 * b * M[2]);
        own += 2 * weight[r * m + s] * R_rs * M[1] * R[s * m + s];
      }
      G[r * m + r] += own;
    }
    for (let r = 0; r < m; r++) {
      for (let a = features; a < width; a++) {
        let g = 0;
        for (let s = 0; s < m; s++) g += G[r * m + s] * y[s * width + a];
        out[r * width + a] = -2 * k.noiseVariance * g;
      }
    }
    for (let e = 0; e < k.rows.length; e++) {
      const j = k.rows[e],
        r = k.columns[e];
      let g = 2 * k.noisePatches * gF[j] * EK[j * m + r];
      for (let f = 0; f < features; f++) g += Q[j * features + f] * phi[r * features + f];
      out[m * width + e] = -k.rho * k.toOnline * g;
    }
    return loss;
  }

  // d(velocity)/dy into `out`, n x n; `work` must come from `velocity` at the same y.
  function velocityJacobian(k, y, out, work) {
    const m = k.neurons,
      features = k.features,
      h = (k.power - 1) / 2,
      width = features + m;
    const n = size(k),
      entries = k.rows.length,
      first = m * width;
    const { phi, slope, U, Q, T, B, E, R, K, EK, weight, G, VF, VG, ownF, gF, gG } = work;
    const { dU, dB, dQ, dT, dR, dK, dEK, dG, dS, dVF, dVG, dOwn, dgF, dgG } = work;
    const M = work.moment,
      seconds = work.seconds;

    dR.fill(0);
    for (let r = 0; r < m; r++) {
      for (let s = 0; s < m; s++) {
        const at = (r * m + s) * n;
        for (let a = features; a < width; a++) {
          dR[at + r * width + a] += k.noiseVariance * y[s * width + a];
          dR[at + s * width + a] += k.noiseVariance * y[r * width + a];
        }
      }
    }
    for (let r = 0; r < m; r++) {
      for (let s = 0; s < m; s++) {
        const rs = r * m + s,
          rr = r * m + r,
          ss = s * m + s,
          b = R[rs] * R[rs];
        moment(k, R[rr] * R[ss], b, M);
        const direct = M[0] + 2 * b * M[2],
          shared = R[rs] * M[1];
        for (let i = 0; i < n; i++) {
          dK[rs * n + i] =
            direct * dR[rs * n + i] + shared * (R[ss] * dR[rr * n + i] + R[rr] * dR[ss * n + i]);
        }
      }
    }

    for (const table of [dU, dB, dS, dVF, dVG, dOwn]) table.fill(0);
    for (let j = 0; j < m; j++) {
      const jn = j * n;
      for (let f = 0; f < features; f++) {
        const at = j * features + f;
        for (let r = 0; r < m; r++) {
          const moved = E[j * m + r] * slope[r * features + f];
          dU[at * n + r * width + f] = moved;
          if (r !== j) dB[at * n + r * width + f] = moved;
        }
        for (let e = 0; e < entries; e++) {
          if (k.rows[e] !== j) continue;
          const fed = phi[k.columns[e] * features + f];
          dU[at * n + first + e] = fed;
          if (k.columns[e] !== j) dB[at * n + first + e] = fed;
        }
        for (let i = 0; i < n; i++) {
          dS[jn + i] += k.cross * k.weights[f] * phi[at] * dU[at * n + i];
          dVF[jn + i] += 2 * k.same * k.weights[f] * U[at] * dU[at * n + i];
        }
        const own = j * width + f;
        dS[jn + own] += k.cross * k.weights[f] * U[at] * slope[at];
        dVG[jn + own] += 2 * k.same * k.weights[f] * phi[at] * slope[at];
      }
      for (let s = 0; s < m; s++) {
        const js = (j * m + s) * n;
        for (let i = 0; i < n; i++) {
          let mixed = 0;
          for (let r = 0; r < m; r++) mixed += E[j * m + r] * dK[(r * m + s) * n + i];
          dEK[js + i] = mixed;
        }
        for (let e = 0; e < entries; e++) {
          if (k.rows[e] === j) dEK[js + first + e] += K[k.columns[e] * m + s];
        }
        for (let i = 0; i < n; i++) dOwn[jn + i] += k.noisePatches * E[j * m + s] * dEK[js + i];
      }
      for (let e = 0; e < entries; e++) {
        if (k.rows[e] === j) dOwn[jn + first + e] += k.noisePatches * EK[j * m + k.columns[e]];
      }
      for (let i = 0; i < n; i++) {
        dVF[jn + i] += dOwn[jn + i];
        dVG[jn + i] += k.noisePatches * dK[(j * m + j) * n + i];
      }
      if (!k.normalised) {
        for (let i = 0; i < n; i++) dgF[jn + i] = dgG[jn + i] = 0;
        for (let f = 0; f < features; f++) {
          const at = j * features + f;
          for (let i = 0; i < n; i++) {
            dQ[at * n + i] = k.weights[f] * k.same * dU[at * n + i];
            dT[at * n + i] = -k.weights[f] * k.cross * dU[at * n + i];
          }
          dQ[at * n + j * width + f] -= k.weights[f] * k.cross * slope[at];
          dT[at * n + j * width + f] += k.weights[f] * k.same * slope[at];
        }
        continue;
      }
      const perF = 1 / VF[j],
        perG = 1 / VG[j],
        scale = Math.sqrt(perF * perG);
      for (let i = 0; i < n; i++) {
        const dLogScale = -0.5 * (dVF[jn + i] * perF + dVG[jn + i] * perG); // d log scale
        dgF[jn + i] = 0.5 * scale * perF * dS[jn + i] + gF[j] * (dLogScale - dVF[jn + i] * perF);
        dgG[jn + i] = 0.5 * scale * perG * dS[jn + i] + gG[j] * (dLogScale - dVG[jn + i] * perG);
      }
      const ownG = k.noisePatches * K[j * m + j],
        jj = (j * m + j) * n;
      for (let f = 0; f < features; f++) {
        const toQ = -k.cross * scale * k.weights[f] * perF;
        const toT = -k.cross * scale * k.weights[f] * perG;
        const at = j * features + f,
          here = at * n,
          self = j * width + f;
        for (let i = 0; i < n; i++) {
          const dLogScale = -0.5 * (dVF[jn + i] * perF + dVG[jn + i] * perG);
          dQ[here + i] = Q[at] * (dLogScale - dVF[jn + i] * perF) + toQ * phi[at] * dOwn[jn + i];
          dT[here + i] =
            T[at] * (dLogScale - dVG[jn + i] * perG) +
            toT * (k.noisePatches * dK[jj + i] * U[at] + ownG * dU[here + i]);
        }
        dQ[here + self] += toQ * ownF[j] * slope[at];
        for (let o = 0; o < features; o++) {
          const to = j * features + o,
            minor = B[to] * phi[at] - B[at] * phi[to];
          const byU = k.same * k.weights[o] * U[to],
            byPhi = k.same * k.weights[o] * phi[to];
          for (let i = 0; i < n; i++) {
            const turned = phi[at] * dB[to * n + i] - phi[to] * dB[here + i];
            dQ[here + i] += toQ * (k.same * k.weights[o] * minor * dU[to * n + i] + byU * turned);
            dT[here + i] -= toT * byPhi * turned;
          }
          const other = j * width + o;
          dQ[here + self] += toQ * byU * B[to] * slope[at];
          dQ[here + other] -= toQ * byU * B[at] * slope[to];
          dT[here + self] -= toT * byPhi * B[to] * slope[at];
          dT[here + other] += toT * byPhi * B[at] * slope[to];
          dT[here + other] -= toT * k.same * k.weights[o] * minor * slope[to];
        }
      }
    }

    for (let r = 0; r < m; r++) {
      for (let f = 0; f < features; f++) {
        const row = r * width + f,
          at = r * features + f,
          to = row * n;
        let total = 0;
        for (let i = 0; i < n; i++) out[to + i] = -slope[at] * k.toTarget * dT[at * n + i];
        for (let j = 0; j < m; j++) {
          const E_jr = E[j * m + r],
            from = (j * features + f) * n;
          total += E_jr * Q[j * features + f];
          for (let i = 0; i < n; i++) out[to + i] -= slope[at] * k.toOnline * E_jr * dQ[from + i];
        }
        for (let e = 0; e < entries; e++) {
          if (k.columns[e] === r) {
            out[to + first + e] -= slope[at] * k.toOnline * Q[k.rows[e] * features + f];
          }
        }
        const c = y[row];
        let bend = k.power * (k.power - 1) * k.signal[f] * c;
        for (let i = 1; i < h; i++) bend *= c * c;
        out[to + row] -= bend * (k.toOnline * total + k.toTarget * T[at]);
      }
    }

    dG.fill(0);
    for (let r = 0; r < m; r++) {
      for (let s = 0; s < m; s++) {
        const rs = r * m + s,
          rr = r * m + r,
          ss = s * m + s,
          b = R[rs] * R[rs];
        moment(k, R[rr] * R[ss], b, M);
        momentSecondDerivatives(k, R[rr] * R[ss], b, seconds);
        const direct = M[0] + 2 * b * M[2],
          shared = R[rs] * M[1];
        const online = k.noisePatches * k.toOnline;
        const dWeight = dEK.subarray(rs * n, rs * n + n); // its last use is over
        if (r === s) {
          const target = k.noisePatches * k.toTarget;
          for (let i = 0; i < n; i++) dWeight[i] = target * dgG[r * n + i];
        } else {
          dWeight.fill(0);
        }
        for (let j = 0; j < m; j++) {
          const both = online * E[j * m + r] * E[j * m + s];
          for (let i = 0; i < n; i++) dWeight[i] += both * dgF[j * n + i];
        }
        for (let e = 0; e < entries; e++) {
          const j = k.rows[e];
          if (k.columns[e] === r) dWeight[first + e] += online * gF[j] * E[j * m + s];
          if (k.columns[e] === s) dWeight[first + e] += online * gF[j] * E[j * m + r];
        }
        for (let i = 0; i < n; i++) {
          const d_rs = dR[rs * n + i],
            d_rr = dR[rr * n + i],
            d_ss = dR[ss * n + i];
          const dA = R[ss] * d_rr + R[rr] * d_ss,
            dBB = 2 * R[rs] * d_rs;
          const dDirect = (M[1] + 2 * b * seconds[1]) * dA + (3 * M[2] + 2 * b * seconds[2]) * dBB;
          const dShared = M[1] * d_rs + R[rs] * (seconds[0] * dA + seconds[1] * dBB);
          dG[rs * n + i] += direct * dWeight[i] + weight[rs] * dDirect;
          dG[rr * n + i] +=
            2 * (shared * R[ss] * dWeight[i] + weight[rs] * (dShared * R[ss] + shared * d_ss));
        }
      }
    }
    for (let r = 0; r < m; r++) {
      for (let a = features; a < width; a++) {
        const to = (r * width + a) * n;
        for (let i = 0; i < n; i++) out[to + i] = 0;
        for (let s = 0; s < m; s++) {
          const rs = r * m + s,
            scaled = 2 * k.noiseVariance * y[s * width + a];
          for (let i = 0; i < n; i++) out[to + i] -= scaled * dG[rs * n + i];
          out[to + s * width + a] -= 2 * k.noiseVariance * G[rs];
        }
      }
    }

    const rate = -k.rho * k.toOnline;
    for (let e = 0; e < entries; e++) {
      const j = k.rows[e],
        r = k.columns[e],
        to = (first + e) * n;
      for (let i = 0; i < n; i++) {
        let moved = EK[j * m + r] * dgF[j * n + i];
        for (let s = 0; s < m; s++) moved += gF[j] * E[j * m + s] * dK[(s * m + r) * n + i];
        out[to + i] = rate * 2 * k.noisePatches * moved;
      }
      for (let o = 0; o < entries; o++) {
        if (k.rows[o] === j) {
          out[to + first + o] += rate * 2 * k.noisePatches * gF[j] * K[k.columns[o] * m + r];
        }
      }
      for (let f = 0; f < features; f++) {
        const from = (j * features + f) * n,
          fed = r * features + f;
        for (let i = 0; i < n; i++) out[to + i] += rate * phi[fed] * dQ[from + i];
        out[to + r * width + f] += rate * Q[j * features + f] * slope[fed];
      }
    }
  }

  // How the coming step from z = (y, log(t + t_0)) runs through time (eq. 13).
  function chooseRescaling(k, z, v, rescaling, chosen) {
    const m = k.neurons,
      width = k.features + m,
      n = z.length - 1;
    let growth = 0,
      decay = 0;
    chosen[0] = chosen[1] = 0;
    for (let r = 0; r < m; r++) {
      let own = TINY,
        dot = 0;
      for (let i = r * width + k.features; i < (r + 1) * width; i++) {
        own += z[i] * z[i];
        dot += z[i] * v[i];
      }
      if (-dot / own > decay) {
        decay = -dot / own;
        chosen[1] = r;
        rescaling[4] = own;
      }
      let norm = own;
      for (let i = r * width; i < r * width + k.features; i++) norm += z[i] * z[i];
      for (let i = r * width; i < r * width + k.features; i++) {
        const square = z[i] * z[i];
        if (z[i] * v[i] > growth * square && square < 0.25 * norm) {
          growth = v[i] / z[i];
          chosen[0] = i;
          rescaling[3] = square;
        }
      }
    }
    const perTime = Math.exp(-z[n]),
      total = perTime + growth + decay;
    rescaling[0] = perTime / total;
    rescaling[1] = growth / total;
    rescaling[2] = decay / total;
    rescaling[5] = z[n];
    rescaling[6] = perTime;
  }

  // g of `chooseRescaling` at z.
  function timeRescaling(k, z, rescaling, chosen) {
    let total = rescaling[0] * Math.exp(rescaling[5] - z[z.length - 1]);
    if (rescaling[1] > 0) {
      const i = chosen[0],
        grown = (z[i] * z[i]) / rescaling[3];
      let power = grown;
      for (let p = 2; p < k.power; p++) power *= grown;
      total += rescaling[1] * power;
    }
    if (rescaling[2] > 0) {
      const first = chosen[1] * (k.features + k.neurons) + k.features;
      let own = 0;
      for (let i = first; i < first + k.neurons; i++) own += z[i] * z[i];
      const left = own / rescaling[4];
      let power = left;
      for (let p = 2; p < k.power; p++) power *= left;
      total += rescaling[2] * power;
    }
    return 1 / total;
  }

  // The derivative of log g by z at the start of the step, into `byZ`.
  function rescalingGradient(k, z, rescaling, chosen, byZ) {
    byZ.fill(0);
    byZ[z.length - 1] = rescaling[0];
    const power = -2 * (k.power - 1);
    if (rescaling[1] > 0) byZ[chosen[0]] = (power * rescaling[1]) / z[chosen[0]];
    if (rescaling[2] > 0) {
      const first = chosen[1] * (k.features + k.neurons) + k.features;
      for (let i = first; i < first + k.neurons; i++)
        byZ[i] = (power * rescaling[2] * z[i]) / rescaling[4];
    }
  }

  // dz/ds into `out`.
  function rescaled(k, z, out, rescaling, chosen, work) {
    const n = z.length - 1,
      g = timeRescaling(k, z, rescaling, chosen);
    velocity(k, z, out, work);
    for (let i = 0; i < n; i++) out[i] *= g;
    out[n] = g * Math.exp(rescaling[5] - z[n]) * rescaling[6];
  }

  // The Jacobian of `rescaled` at the start of a step, where g = 1, into `out`.
  function jacobian(k, z, v, out, inner, rescaling, chosen, byZ, work) {
    const n = z.length - 1,
      width = n + 1;
    rescalingGradient(k, z, rescaling, chosen, byZ);
    velocityJacobian(k, z, inner, work);
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        out[row * width + column] = inner[row * n + column] + v[row] * byZ[column];
      }
      out[row * width + n] = v[row] * byZ[n];
    }
    for (let column = 0; column < n; column++) out[n * width + column] = v[n] * byZ[column];
    out[n * width + n] = v[n] * (byZ[n] - 1);
  }

  // LU with partial pivoting, in place, the diagonal of U inverted.
  function factorise(matrix, pivots, n) {
    for (let j = 0; j < n; j++) {
      let best = j;
      for (let i = j + 1; i < n; i++) {
        if (Math.abs(matrix[i * n + j]) > Math.abs(matrix[best * n + j])) best = i;
      }
      pivots[j] = best;
      if (best !== j) {
        for (let c = 0; c < n; c++) {
          const kept = matrix[j * n + c];
          matrix[j * n + c] = matrix[best * n + c];
          matrix[best * n + c] = kept;
        }
      }
      matrix[j * n + j] = 1 / matrix[j * n + j];
      for (let i = j + 1; i < n; i++) {
        const factor = matrix[i * n + j] * matrix[j * n + j];
        matrix[i * n + j] = factor;
        if (factor !== 0) {
          for (let c = j + 1; c < n; c++) matrix[i * n + c] -= factor * matrix[j * n + c];
        }
      }
    }
  }

  // Solve in place with the factors of `factorise`.
  function solve(matrix, pivots, b, n) {
    for (let i = 0; i < n; i++) {
      const kept = b[i];
      b[i] = b[pivots[i]];
      b[pivots[i]] = kept;
    }
    for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) b[i] -= matrix[i * n + j] * b[j];
    for (let i = n - 1; i >= 0; i--) {
      for (let j = i + 1; j < n; j++) b[i] -= matrix[i * n + j] * b[j];
      b[i] *= matrix[i * n + i];
    }
  }

  // One step of Rodas5P from z: the new state into `end`, the stages into `stages`.
  function rosenbrockStep(k, z, v, J, h, end, stages, matrix, pivots, rescaling, chosen, work) {
    const n = z.length;
    for (let i = 0; i < n * n; i++) matrix[i] = -J[i];
    for (let i = 0; i < n; i++) matrix[i * n + i] += 1 / (h * GAMMA);
    factorise(matrix, pivots, n);
    for (let stage = 0; stage < STAGES; stage++) {
      const u = stages[stage];
      if (stage === 0) {
        u.set(v);
      } else {
        end.set(z);
        for (let before = 0; before < stage; before++) {
          const a = A[stage][before],
            past = stages[before];
          if (a !== 0) for (let i = 0; i < n; i++) end[i] += a * past[i];
        }
        rescaled(k, end, u, rescaling, chosen, work);
        for (let before = 0; before < stage; before++) {
          const c = C[stage][before] / h,
            past = stages[before];
          for (let i = 0; i < n; i++) u[i] += c * past[i];
        }
      }
      solve(matrix, pivots, u, n);
    }
    const error = stages[STAGES - 1];
    for (let i = 0; i < n; i++) end[i] += error[i];
  }

  // Root mean square of the error of a step in units of its tolerance.
  function errorNorm(k, z, end, error, rtol) {
    const m = k.neurons,
      width = k.features + m,
      last = z.length - 1;
    let total = (error[last] / rtol) ** 2;
    for (let r = 0; r < m; r++) {
      let largest = TINY,
        noise = TINY,
        wrong = 0;
      const middle = r * width + k.features;
      for (let i = r * width; i < middle; i++) largest = Math.max(largest, Math.abs(z[i]));
      for (let i = r * width; i < middle; i++) {
        total += (error[i] / (rtol * Math.max(Math.abs(end[i]), 1e-3 * largest))) ** 2;
      }
      for (let i = middle; i < (r + 1) * width; i++) {
        noise += z[i] * z[i];
        wrong += error[i] * error[i];
      }
      total += wrong / (rtol * rtol * noise);
    }
    const floor = 0.1 * Math.sqrt(k.rho / k.power) + TINY;
    for (let i = m * width; i < last; i++) {
      total += (error[i] / (rtol * Math.max(Math.abs(end[i]), floor))) ** 2;
    }
    return Math.sqrt(total / z.length);
  }

  // t_0: a thousandth of the shortest time in which a component would double.
  function firstOffset(k, y, time, work) {
    const v = floats(y.length);
    velocity(k, y, v, work);
    let offset = time;
    for (let i = 0; i < k.neurons * (k.features + k.neurons); i++) {
      if (y[i] !== 0 && v[i] !== 0) offset = Math.min(offset, 1e-3 * Math.abs(y[i] / v[i]));
    }
    return offset;
  }

  // Keeps copies of rows of n numbers in a few large buffers: small buffers cost more to
  // collect than the integration itself.
  function keeper(n) {
    let block = floats(0),
      used = 0;
    return (row) => {
      if (used === block.length) {
        block = floats(256 * n);
        used = 0;
      }
      const kept = block.subarray(used, (used += n));
      kept.set(row);
      return kept;
    };
  }

  // Integrate from `start` to `time`. Returns the accepted states z and velocities, the
  // steps (h, g at the end of each), the losses, t_0, how it ended and how many were tried.
  function flow(k, start, time, rtol = 1e-6, maxSteps = MAX_STEPS) {
    const n = start.length + 1,
      last = n - 1,
      work = workspace(k);
    const z = floats(n),
      v = floats(n),
      end = floats(n),
      byZ = floats(n);
    const J = floats(n * n),
      matrix = floats(n * n),
      inner = floats(last * last);
    const pivots = new Int32Array(n),
      rescaling = floats(7),
      chosen = new Int32Array(2);
    const stages = Array.from({ length: STAGES }, () => floats(n));

    const offset = firstOffset(k, start, time, work),
      goal = Math.log(time + offset);
    z.set(start);
    z[last] = Math.log(offset);
    let h = 0.1 * offset,
      status = REACHED,
      tried = 0;
    let hBefore = 0,
      errorBefore = 1,
      rejected = false;
    const steps = [],
      states = [],
      slopes = [],
      losses = [],
      keep = keeper(n);
    for (;;) {
      const loss = velocity(k, z, v, work);
      v[last] = Math.exp(-z[last]);
      states.push(keep(z));
      slopes.push(keep(v));
      losses.push(loss);
      if (z[last] >= goal - CLOSE) break;
      if (!v.every(Number.isFinite)) {
        status = NOT_FINITE;
        break;
      }
      chooseRescaling(k, z, v, rescaling, chosen);
      jacobian(k, z, v, J, inner, rescaling, chosen, byZ, work);
      let fastest = 0;
      for (let i = 0; i < last; i++) fastest = Math.max(fastest, Math.abs(v[i]));
      let error = 0;
      for (;;) {
        tried += 1;
        rosenbrockStep(k, z, v, J, h, end, stages, matrix, pivots, rescaling, chosen, work);
        error = errorNorm(k, z, end, stages[STAGES - 1], rtol);
        if (error <= 1 && end[last] <= goal + CLOSE) break;
        if (error <= 1) {
          // beyond the end: aim at it
          h *= (goal - z[last]) / (end[last] - z[last]);
        } else {
          rejected = true;
          h *= Number.isFinite(error) ? Math.max(0.1, 0.9 * error ** -0.2) : 0.1;
        }
        if (h * fastest < STILL) {
          status = STEP_TOO_SMALL;
          break;
        }
        if (tried >= maxSteps) break;
      }
      if (status === REACHED && tried >= maxSteps) status = TOO_MANY_STEPS;
      if (status !== REACHED) break;
      const g = timeRescaling(k, end, rescaling, chosen);
      steps.push([h, g]);
      z.set(end);
      // Gustafsson's predictive controller, as in kernels.py.
      error = Math.max(error, 1e-8);
      let factor = 0.9 * error ** -0.2;
      if (hBefore > 0) {
        factor = Math.min(factor, factor * (h / hBefore) * (errorBefore / error) ** 0.2);
      }
      factor = Math.min(8, Math.max(0.2, factor));
      if (rejected) factor = Math.min(factor, 1);
      hBefore = h * g;
      errorBefore = Math.max(error, 1e-2);
      rejected = false;
      h *= g * factor;
    }
    return { steps, states, slopes, losses, offset, status, tried };
  }

  // Component i at a share of step `at`, by cubic Hermite interpolation in s.
  function between(run, at, share, i) {
    const x = share,
      left = 1 - x,
      [h, g] = run.steps[at];
    return (
      (1 + 2 * x) * left * left * run.states[at][i] +
      x * left * left * h * run.slopes[at][i] +
      x * x * (3 - 2 * x) * run.states[at + 1][i] -
      x * x * left * h * g * run.slopes[at + 1][i]
    );
  }

  return {
    LEARNED,
    REACHED,
    NOT_FINITE,
    STEP_TOO_SMALL,
    TOO_MANY_STEPS,
    size,
    workspace,
    velocity,
    velocityJacobian,
    flow,
    between,
  };
})();
