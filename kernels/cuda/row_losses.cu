// Losses of rows, (n, c), with their derivatives: sums[i] = weight[i] * loss of row i, total their sum / divisor *
// of_value, dpred = weight[i] * scale * of_slope * slope, or what BACK makes of that, dy f'(s), where predictions are f's. With LOGARITHM (softmax.cuh,
// which comes before) pred are logits, of which y are the predictions, and the derivative is theirs.
// GROUP threads share a row. ROW_LOSS names one of the functions below; SOFTMAX says whether a focal loss is of logits.
//
// Each has the row's predictions p, what they ought to be, the number of columns of this thread's turn (0 behind the
// last row), and what slopes are multiplied with; it writes them to g. The same sum comes back to all threads.

#define CLIP real(1e-7)

// A row of targets, which goal_of (goals.py) makes of numbers, or of a label: 1 at its place, 0 elsewhere.
struct Goal {
    const real* row;
    int64 label;
    const Goals* goals;

    FUNCTION_OF_CLASS real operator[](int64 j) const { return row ? goal_of(*goals, row[j]) : real(j == label); }
};

FUNCTION real clipped(real p) { return p < CLIP ? CLIP : p > 1 - CLIP ? 1 - CLIP : p; }

#define COLUMNS int64 j = Turn<GROUP>::lane(); j < c; j += GROUP

FUNCTION real top_of(const real* p, int64 c) {
    real top = -INFINITY;
    for (COLUMNS) top = p[j] > top || p[j] != p[j] ? p[j] : top;
    return largest<GROUP>(top);
}

FUNCTION real softmax_cross_entropy(const real* p, Goal t, int64 c, real share, const real*, real* g) {
    const real top = top_of(p, c);
    real mass = 0, loss = 0;
    for (COLUMNS) mass += exp(p[j] - top);
    mass = sum<GROUP>(mass);
    const real log_sum = top + log(mass);
    for (COLUMNS) {
        const real goal = t[j];
        if (goal != 0) loss += goal * (log_sum - p[j]);
        g[j] = share * (exp(p[j] - top) / mass - goal);
    }
    return sum<GROUP>(loss);
}

// A loss of q = clipped shares p / sum of p: by the quotient rule its slope is (w[j] - sum of w q) / sum of p.
FUNCTION real cross_entropy(const real* p, Goal t, int64 c, real share, const real*, real* g) {
    real mass = 0, loss = 0, dot = 0;
    for (COLUMNS) mass += p[j];
    mass = sum<GROUP>(mass);
    for (COLUMNS) {
        const real scaled = p[j] / (mass == 0 ? NAN : mass), q = clipped(scaled), goal = t[j];
        loss -= goal * log(q);
        g[j] = q == scaled ? -goal / q : 0;
        dot += g[j] * scaled;
    }
    dot = sum<GROUP>(dot);
    for (COLUMNS) g[j] = share * ((g[j] - dot) / mass);
    return sum<GROUP>(loss);
}

FUNCTION real focal(const real* p, Goal t, int64 c, real share, const real* numbers, real* g) {
    const real gamma = numbers[0];
#if SOFTMAX
    const real top = top_of(p, c);
#endif
    real mass = 0, loss = 0, dot = 0;
#if SOFTMAX
#define PART(j) exp(p[j] - top)
#else
#define PART(j) p[j]
#endif
    for (COLUMNS) mass += PART(j);
    mass = sum<GROUP>(mass);
    for (COLUMNS) {
        const real q = PART(j) / mass, kept = clipped(q), goal = t[j], logarithm = log(kept);
        const real power = pow(1 - kept, gamma), bend = gamma * pow(1 - kept, gamma - 1);
        loss -= goal * power * logarithm;
        g[j] = kept == q ? goal * (bend * logarithm - power / kept) : 0;
        dot += g[j] * q;
    }
    dot = sum<GROUP>(dot);
    for (COLUMNS) g[j] = share * (g[j] - dot) * (SOFTMAX ? PART(j) / mass : 1 / mass);
    return sum<GROUP>(loss);
}

FUNCTION real cosine(const real* p, Goal t, int64 c, real share, const real*, real* g) {
    real p_square = 0, t_square = 0, dot = 0;
    for (COLUMNS) {
        const real goal = t[j];
        p_square += p[j] * p[j], t_square += goal * goal, dot += p[j] * goal;
    }
    p_square = sqrt(sum<GROUP>(p_square)), t_square = sqrt(sum<GROUP>(t_square)), dot = sum<GROUP>(dot);
    const real p_norm = p_square < CLIP ? CLIP : p_square, t_norm = t_square < CLIP ? CLIP : t_square;
    const real cosine = dot / (p_norm * t_norm);
    for (COLUMNS) g[j] = share * ((p[j] * cosine / p_norm - t[j] / t_norm) / p_norm);
    return -cosine;
}

FUNCTION real categorical_hinge(const real* p, Goal t, int64 c, real share, const real*, real* g) {
    real most = -INFINITY, right = 0;
    int64 worst = c;
    for (COLUMNS) {
        const real wrong = (1 - t[j]) * p[j];
        if (wrong > most) most = wrong, worst = j;
        right += t[j] * p[j];
    }
    const real strongest = largest<GROUP>(most);
    worst = smallest<GROUP>(most == strongest ? worst : c);
    const real margin = strongest - sum<GROUP>(right) + 1;
    for (COLUMNS) {
        const real goal = t[j];
        g[j] = margin > 0 ? share * ((j == worst ? 1 - goal : 0) - goal) : 0;
    }
    return margin > 0 || margin != margin ? margin : 0;
}

FUNCTION real multiclass_hinge(const real* p, Goal t, int64 c, real share, const real*, real* g) {
    real most = -INFINITY, loss = 0, count = 0;
    int64 place = c;
    for (COLUMNS)
        if (t[j] > most) most = t[j], place = j;
    const real top = largest<GROUP>(most);
    const int64 right = smallest<GROUP>(most == top ? place : c);
    const real score = right < c ? p[right] : NAN;
    for (COLUMNS) {
        const real margin = p[j] - score + 1;
        if (j == right) continue;
        const bool counts = margin > 0 || margin != margin;
        loss += counts ? margin : 0, count += counts;
        g[j] = counts ? share : 0;
    }
    count = sum<GROUP>(count);
    for (COLUMNS)
        if (j == right) g[j] = -share * count;
    return sum<GROUP>(loss);
}

#ifdef LOSS
FUNCTION real summed(const real* p, Goal t, int64 c, real share, const real* numbers, real* g) {
    real total = 0;
    for (COLUMNS) {
        real loss, slope;
        LOSS(p[j], t[j], numbers, &loss, &slope);
        total += loss, g[j] = share * slope;
    }
    return sum<GROUP>(total);
}
#endif

// Whether a row is none of probabilities, or of numbers in [0, 1], or a label none of the classes.
FUNCTION bool is_wrong(const ScoredRows& given, Goal t, int64 c) {
    if (given.labels) return t.label < 0 || t.label >= given.c;
    if (given.unit_targets) {
        int outside = 0;
        for (COLUMNS) outside |= !(t[j] >= 0 && t[j] <= 1);
        return largest<GROUP>(outside);
    }
    if (given.most_off == 0) return false;
    double mass = 0;
    int negative = 0;
    for (COLUMNS) mass += t[j], negative |= !(t[j] >= 0);
    mass = sum<GROUP>(mass), negative = largest<GROUP>(negative);
    return negative || !(mass - 1 <= given.most_off && 1 - mass <= given.most_off);
}

extern "C" __global__ void rows(const ScoredRows given) {
    const ScoredRowsNumbers chosen = numbers_of(given);
    const Goals goals = goals_of(given, chosen, given.n * given.c);
    for (Turn<GROUP> turn(given.n); turn.any(); turn.next()) {
        const bool is_row = turn.is_row();
        const int64 c = is_row ? given.c : 0, at = turn.row * given.c;
        const int64 label = given.labels && is_row ? given.labels[turn.row] : 0;
        const Goal goal = {given.labels ? nullptr : given.target + at, label, &goals};
        const real weight = given.weights && is_row ? given.weights[turn.row] : real(1);
        const bool wrong = is_wrong(given, goal, c);
        const real* pred = given.pred + at;
        real* slopes = given.dpred + at;
#ifdef LOGARITHM
        outputs_of(pred, c, given.y + at);
        pred = given.y + at;
        __syncthreads(); // for those who look at others' columns
#endif
        const real loss = ROW_LOSS(pred, goal, c, weight * given.scale * chosen.of_slope, chosen.numbers, slopes);
#ifdef LOGARITHM
        slopes_of(slopes, pred, c, slopes);
#elif defined(BACK)
        for (COLUMNS) slopes[j] = BACK(slopes[j], given.s[at + j], given.back);
#endif
        if (is_row && turn.lane() == 0) given.sums[turn.row] = wrong ? double(NAN) : double(weight * loss);
    }
    add_up(given, given.n, chosen.of_value);
}
